/* Hashes and counter-based random numbers.
 *
 * SHA-256 (FIPS 180-4) names everything that must not be confused: programs, library sections,
 * records. hash64 is for in-memory tables only and is never stored.
 * Random numbers are a function of (seed, counter): SplitMix64's finaliser (Steele, Lea, Flood:
 * Fast Splittable Pseudorandom Number Generators, OOPSLA 2014), so any element of any input can
 * be computed alone, on any device, in any order. */
#ifndef KILN_BASE_HASH_H
#define KILN_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct kiln_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
} kiln_sha256;

void kiln_sha256_init(kiln_sha256 *h);
void kiln_sha256_add(kiln_sha256 *h, const void *data, size_t bytes);
void kiln_sha256_end(kiln_sha256 *h, uint8_t digest[32]);
/* All three in one. */
void kiln_sha256_of(const void *data, size_t bytes, uint8_t digest[32]);
/* 64 lower-case digits and a NUL. */
void kiln_hex(const uint8_t *bytes, size_t n, char *out);

uint64_t kiln_hash64(const void *data, size_t bytes);

uint64_t kiln_random64(uint64_t seed, uint64_t counter);
/* Uniform in [0, 1). */
double kiln_random_unit(uint64_t seed, uint64_t counter);

#endif
