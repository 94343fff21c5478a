# make tune    install what is missing, build, run the main job   (Debian 12)
# make test    install what is missing, build, run the tests
# make         build only: build/tune build/kiln build/libkiln.so build/libkiln.a
# make bench dist install asan ubsan fuzz kernels format clean: see README.md
#
# Folders are found by wildcard: a new target, family, variant, strategy or test needs no edit here.
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

BUILD   ?= build
PREFIX  ?= /usr/local
VERSION := 0.1.0
CC      ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
OPT     ?= -O2 -g
WARN    := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
           -Wpointer-arith -Wwrite-strings -Wvla
CFLAGS  += -std=c11 -D_GNU_SOURCE -DKILN_RELEASE='"$(VERSION)"' -DCL_TARGET_OPENCL_VERSION=120 \
           -DCL_USE_DEPRECATED_OPENCL_1_2_APIS $(WARN) $(OPT) $(SANITIZE) -fPIC -pthread -I. -I$(BUILD)/gen
# Instrumented code hides from gcc how long strings are: these two warnings guess then.
ifneq ($(SANITIZE),)
CFLAGS += -Wno-format-truncation -Wno-maybe-uninitialized
endif
LDFLAGS += -pthread $(SANITIZE)
TUNE_LIBS := -lsqlite3 -ljansson -lxgboost -lz -lhwloc -lm -ldl
KILN_LIBS := -lm -ldl

GEN := $(BUILD)/gen
# ---- what belongs to what
CORE_SRC    := $(wildcard base/*.c) $(wildcard kernels/*.c) $(wildcard kernels/*/launch*.c)
CORE_SRC    := $(filter-out kernels/emit.c,$(CORE_SRC))
TARGET_SRC  := $(wildcard targets/*.c) $(filter-out %/vendor_%,$(wildcard targets/*/*.c))
VENDOR_SRC  := $(wildcard targets/*/vendor_*.c)
RUNTIME_SRC := $(filter-out runtime/tool.c,$(wildcard runtime/*.c))
GENERATE_SRC := kernels/emit.c $(filter-out $(CORE_SRC),$(wildcard kernels/*/*.c))
GENERATE_SRC := $(filter-out %.k.c,$(GENERATE_SRC))
CORE_SRC    := $(filter-out %.k.c,$(CORE_SRC))
TUNER_SRC   := $(wildcard results/*.c) $(wildcard cost-model/*.c) $(wildcard search/*.c) \
               $(filter-out tuner/main.c,$(wildcard tuner/*.c))
BODIES := $(wildcard kernels/*.k.c) $(wildcard kernels/*/*.k.c) $(wildcard kernels/*/*.cuh kernels/*/*/*.cuh) \
          $(wildcard kernels/*/*.hip.h) $(wildcard targets/*/dialect.h)

# what published records say of schedules (make model); a build without it has no such prior
MODEL  := $(wildcard cost-model/shipped.txt)

FAMILIES   := $(patsubst kernels/%/launch.c,%,$(wildcard kernels/*/launch.c))
GENERATORS := $(patsubst kernels/%/family.c,%,$(wildcard kernels/*/family.c))
TARGETS    := $(patsubst targets/%/target.c,%,$(wildcard targets/*/target.c))
STRATEGIES := $(patsubst search/strategy_%.c,%,$(wildcard search/strategy_*.c))

object = $(patsubst %.c,$(BUILD)/%.o,$(1))
RUNTIME_OBJ := $(call object,$(CORE_SRC) $(TARGET_SRC) $(RUNTIME_SRC)) \
               $(GEN)/families.o $(GEN)/targets.o
TUNER_OBJ   := $(call object,$(VENDOR_SRC) $(GENERATE_SRC) $(TUNER_SRC)) \
               $(GEN)/generators.o $(GEN)/strategies.o $(GEN)/embedded.o $(GEN)/vendors.o

.PHONY: all deps tune test check-gpu bench bench-search model dist install asan ubsan run-tests clang-build fuzz \
        kernels format clean layers
all: $(BUILD)/tune $(BUILD)/kiln $(BUILD)/libkiln.so $(BUILD)/libkiln.a $(BUILD)/kiln.pc

$(BUILD)/tune: $(BUILD)/tuner/main.o $(TUNER_OBJ) $(RUNTIME_OBJ)
	$(if $(V),,@echo "  LD $@" &&) $(CC) $(LDFLAGS) -o $@ $^ $(TUNE_LIBS) $(XLIBS)
# the tool checks results against the families' references, which the runtime itself does not hold
$(BUILD)/kiln: $(BUILD)/runtime/tool.o $(call object,$(GENERATE_SRC)) $(GEN)/generators.o \
               $(GEN)/embedded.o $(BUILD)/libkiln.a
	$(if $(V),,@echo "  LD $@" &&) $(CC) $(LDFLAGS) -o $@ $^ $(KILN_LIBS)
$(BUILD)/libkiln.a: $(RUNTIME_OBJ)
	@rm -f $@ && ar rcs $@ $^
$(BUILD)/libkiln.so: $(RUNTIME_OBJ) runtime/kiln.map
	$(if $(V),,@echo "  LD $@" &&) $(CC) $(LDFLAGS) -shared -Wl,-soname,libkiln.so.0 -Wl,--version-script=runtime/kiln.map \
	    -o $@ $(RUNTIME_OBJ) $(KILN_LIBS)
	ln -sf libkiln.so $(BUILD)/libkiln.so.0
$(BUILD)/kiln.pc: runtime/kiln.pc.in Makefile
	sed -e 's|@PREFIX@|$(abspath $(PREFIX))|' -e 's|@VERSION@|$(VERSION)|' $< > $@

# ---- registries and embedded bodies, rewritten only when they change
$(GEN)/%.c: FORCE
	@mkdir -p $(GEN)
	@scripts/registry $* $(REGISTRY_$*) > $@.new; cmp -s $@.new $@ && rm $@.new || mv $@.new $@
REGISTRY_families   := $(FAMILIES)
REGISTRY_generators := $(GENERATORS)
REGISTRY_targets    := $(TARGETS)
REGISTRY_strategies := $(STRATEGIES)
REGISTRY_embedded   := $(BODIES) $(MODEL)
REGISTRY_vendors    := $(patsubst targets/%.c,%,$(VENDOR_SRC))
.PRECIOUS: $(GEN)/%.c
FORCE:

$(GEN)/%.o: $(GEN)/%.c
	$(if $(V),,@echo "  CC $<" &&) $(CC) $(CFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<" &&) $(CC) $(CFLAGS) -MMD -MP -c -o $@ $<
$(GEN)/embedded.o: $(BODIES) $(MODEL)

# ---- the single commands
deps:
	scripts/dependencies
tune: deps
	$(MAKE) -j$$(nproc) all
	$(BUILD)/tune --device auto $(TUNE_ARGS)

TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TUNER_OBJ) $(RUNTIME_OBJ)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD $@" &&) $(CC) $(LDFLAGS) -o $@ $^ -lcmocka -lOpenCL $(TUNE_LIBS)
.PRECIOUS: $(BUILD)/tests/%.o
test:
	scripts/dependencies test
	$(MAKE) -j$$(nproc) all tests-built
	$(MAKE) layers
	$(MAKE) -j$$(nproc) clang-build
	$(MAKE) kernels
	BUILD=$(BUILD) scripts/fuzz
	scripts/run-tests $(BUILD) $(TESTS)
.PHONY: tests-built
tests-built: $(TESTS)
layers:
	scripts/layers

# ---- more checks
# Sanitizers run the whole test suite; clang only builds it: its warnings differ.
asan:
	$(MAKE) BUILD=build/asan OPT="-O1 -g" SANITIZE="-fsanitize=address -fno-omit-frame-pointer" run-tests
ubsan:
	$(MAKE) BUILD=build/ubsan OPT="-O1 -g" SANITIZE="-fsanitize=undefined -fno-sanitize-recover=undefined" run-tests
run-tests:
	scripts/dependencies test
	$(MAKE) -j$$(nproc) all tests-built
	scripts/run-tests $(BUILD) $(TESTS)
clang-build:
	$(MAKE) BUILD=build/clang CC=clang all tests-built
fuzz:
	BUILD=$(BUILD) scripts/fuzz
# Every family on every device present, against the evaluator. On a machine without GPU: PoCL.
check-gpu: deps $(BUILD)/check_device
	$(BUILD)/check_device
$(BUILD)/check_device: $(BUILD)/tests/check_device.o $(TUNER_OBJ) $(RUNTIME_OBJ)
	$(if $(V),,@echo "  LD $@" &&) $(CC) $(LDFLAGS) -o $@ $^ $(TUNE_LIBS)
BENCHES := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/bench_*.c))
# Speed: matmul against the vendors in one interleaved run, then what the runtime itself costs.
bench: deps all $(BENCHES)
	$(BUILD)/tune run $(foreach n,512 1024 2048,"matmul m=$(n) n=$(n) k=$(n) type=f32") \
	    --budget 90s --out $(BUILD)/bench
	@for b in $(BENCHES); do echo "== $$b"; $$b $(BUILD)/bench/*.kiln || exit 1; done
# The model that ships: trained on the published records, embedded by the next build. Times of turns
# that each kernel had for itself are of other clocks than those that trials and finals share.
model: all
	$(BUILD)/tune model $(filter-out %-alone.jsonl,$(wildcard results/data/*.jsonl)) -o cost-model/shipped.txt
	$(MAKE) all
bench-search: deps all
	scripts/bench-search $(BUILD)/tune
# Every kernel body compiles alone with its defaults (NVRTC and PoCL where present).
kernels: $(BUILD)/tune
	scripts/kernels $(BUILD)/tune

# ---- shipping
dist: all
	scripts/dependencies test
	scripts/dist $(BUILD) $(VERSION)
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include
	install $(BUILD)/tune $(BUILD)/kiln $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(BUILD)/libkiln.a $(DESTDIR)$(PREFIX)/lib
	install $(BUILD)/libkiln.so $(DESTDIR)$(PREFIX)/lib/libkiln.so.0
	ln -sf libkiln.so.0 $(DESTDIR)$(PREFIX)/lib/libkiln.so
	install -m 644 $(BUILD)/kiln.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 644 runtime/kiln.h $(DESTDIR)$(PREFIX)/include

format:
	clang-format -i $$(git ls-files '*.c' '*.h' | grep -v '\.k\.c$$')
clean:
	rm -rf build kiln-out

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
