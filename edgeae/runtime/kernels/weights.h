// Weights, read as they are stored (quantize.py): a matrix of C_OUT columns, whose rows are (ky, kx, input channel).
// WEIGHT_ROW is how many columns follow one another: C_OUT, or less in weights that were laid out by blocks.

#if WEIGHT_BITS == 32
typedef float weight;
typedef unaligned_vec packed;
INLINE vec widen(packed p, long k) { return p; }
#elif WEIGHT_BITS == 16 && defined(__ARM_FP16_FORMAT_IEEE)
typedef __fp16 weight;
typedef weight packed __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
INLINE vec widen(packed p, long k) { return __builtin_convertvector(p, vec); }
#elif WEIGHT_BITS == 16
typedef unsigned short weight;
typedef weight packed __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
INLINE vec widen(packed p, long k)
{
    // The exponent grows from 5 bits to 8, by a multiplication that is exact for subnormal numbers too.
    const uvec h = __builtin_convertvector(p, uvec);
    const uvec special = (uvec)((h & 0x7c00u) == 0x7c00u) & 0x7f800000u; // infinity and NaN keep the largest exponent
    return (vec)((h & 0x8000u) << 16 | special | (uvec)((vec)((h & 0x7fffu) << 13) * 0x1p112f));
}
#elif WEIGHT_BITS == 8
typedef signed char weight;
typedef weight packed __attribute__((vector_size(LANES), aligned(1), may_alias));
INLINE vec widen(packed p, long k) { return __builtin_convertvector(p, vec); }
#elif WEIGHT_BITS == 4
typedef unsigned char weight;
typedef weight packed __attribute__((vector_size(LANES), aligned(1), may_alias));
INLINE vec widen(packed p, long k)
{
    return __builtin_convertvector((__builtin_convertvector(p, ivec) >> (int)(k % 2 * 4) & 15) - 8, vec);
}
#endif

enum { ROWS_PACKED = WEIGHT_BITS == 4 ? 2 : 1 };

// Row k, LANES columns from c on. Those of 8 bits lack their scale, which the complete sum is multiplied by.
INLINE vec weights(const weight *w, const float *scale, long k, int c)
{
    const vec v = widen(*(const packed *)(w + k / ROWS_PACKED * WEIGHT_ROW + c), k);
    return WEIGHT_BITS == 4 ? v * load(scale + k / 32 * C_OUT + c) : v;
}

// Row k, column c, complete.
INLINE float weight_at(const weight *w, const float *scale, long k, int c)
{
    const float v = widen((packed){0} + w[k / ROWS_PACKED * C_OUT + c], k)[0];
    return WEIGHT_BITS == 4 ? v * scale[k / 32 * C_OUT + c] : WEIGHT_BITS == 8 ? v * scale[c] : v;
}
