/* Count the bit errors of LLRs, and compare them with an expected number.
 *
 * Build: cc -std=c11 -O2 count_errors.c -o count_errors
 * Run:   ./count_errors LLRS BITS EXPECTED
 *
 * LLRS holds float32 values in the byte order of the machine, BITS one byte for each: 0, 1, or 2 where there is no bit.
 * Exit code 1: more than one bit in 10,000 differs from the expected number; 2: a file cannot be read.
 */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s LLRS BITS EXPECTED\n", argv[0]);
        return 2;
    }
    FILE *llrs = fopen(argv[1], "rb"), *bits = fopen(argv[2], "rb");
    if (!llrs || !bits) {
        fprintf(stderr, "%s: cannot be read\n", llrs ? argv[2] : argv[1]);
        return 2;
    }
    long expected = atol(argv[3]), errors = 0, total = 0;
    float llr;
    int bit;
    while ((bit = fgetc(bits)) != EOF) {
        if (fread(&llr, sizeof llr, 1, llrs) != 1) {
            fprintf(stderr, "%s: has fewer values than %s\n", argv[1], argv[2]);
            return 2;
        }
        if (bit > 1) continue;
        total++;
        errors += (llr > 0.0f) != bit;
    }
    if (fgetc(llrs) != EOF) {
        fprintf(stderr, "%s: has more values than %s\n", argv[1], argv[2]);
        return 2;
    }
    long difference = errors > expected ? errors - expected : expected - errors;
    printf("%ld of %ld bits are wrong, %ld in the recording\n", errors, total, expected);
    return difference > total / 10000;
}
