#!/bin/sh
# scratch_folders.sh BUILD: in a copy of the tree, adds a target folder and a family folder that hold
# next to nothing, touches no other file, builds, and asks `tune` for both. BUILD is inside the tree:
# its objects are copied, so that only what is new is compiled.
set -eu
build=$(cd "$1" && pwd -P)
cd "$(dirname "$0")/.."
build=${build#"$(pwd -P)/"}
case $build in /*) echo "$build is not inside the tree" >&2 && exit 1 ;; esac
copy=$(mktemp -d "${TMPDIR:-/tmp}/kiln-scratch-XXXXXX")
trap 'rm -rf "$copy"' EXIT
for d in Makefile base kernels targets results search cost-model tuner runtime scripts tests; do
    cp -a "$d" "$copy/"
done
mkdir -p "$copy/$build"
(cd "$build" && tar -cf - --exclude=./tests --exclude=./test-logs --exclude=./pocl-cache .) | tar -xf - -C "$copy/$build"
cd "$copy"

mkdir targets/nothing kernels/blank
cat >targets/nothing/target.c <<'END'
#include "targets/target.h"

static int devices(kiln_caps *caps, int max, kiln_error *e) {
    (void)caps, (void)max;
    kiln_fail(e, KILN_NO_DEVICE, "no driver for nothing was ever written");
    return 0;
}

const kiln_target kiln_target_nothing = {.name = "nothing", .devices = devices};
END
cat >kernels/blank/launch.c <<'END'
#include "kernels/family.h"

static const kiln_key keys[] = {{.name = "n", .help = "a size"}, {0}};
static const kiln_variant *const variants[] = {0};

static int nothing(kiln_problem *p, kiln_error *e) {
    (void)p, (void)e;
    return 0;
}

const kiln_family kiln_family_blank = {.name = "blank", .help = "a family with nothing in it",
                                       .keys = keys, .axis = {"n", 0}, .operands = nothing,
                                       .shape = nothing, .variants = variants};
END
cat >kernels/blank/family.c <<'END'
#include "kernels/family.h"

extern const kiln_family kiln_family_blank;
static const kiln_variant_generator variants[] = {{0}};

const kiln_generator kiln_generator_blank = {.family = &kiln_family_blank, .variants = variants};
END

make BUILD="$build" "$build/tune" "$build/kiln" >make.log 2>&1 || { cat make.log && exit 1; }
scripts/layers || exit 1
"$build/tune" devices >devices.txt || [ $? = 2 ]
grep '^nothing  *absent: no driver for nothing was ever written$' devices.txt || { cat devices.txt && exit 1; }
"$build/tune" show --help >show.txt || true
grep '^  blank  *a family with nothing in it$' show.txt || { cat show.txt && exit 1; }
