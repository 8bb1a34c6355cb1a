// The convolutions of convolution.c with fewer multiplications (winograd.h): 3 x 3 of stride 1; 4 x 4 of stride 2 as 2
// x 2 on squares of pixels (SUB = 2); and transposed 4 x 4 as its 2 x 2 phases (STEP = 2).
//
// A chunk is IMAGES images by CHUNK_H rows of cells, cut into TILES squares of 2 x 2 cells. Where CHUNK_H or the width
// is odd, the last square starts early, over cells of the one before. A chunk is computed in three steps:
//   1. The window of inputs of each square becomes PRODUCTS factors per input channel (window_factors).
//   2. Each of the PRODUCTS is a matrix product: TILES x K factors of inputs by K x C_OUT factors of weights, which
//      winograd_weights.c has computed (multiply).
//   3. The products of each square become its 2 x 2 outputs (finish).

enum {
    CELLS_H = OUT_H / STEP,
    CELLS_W = OUT_W / STEP,
    ROWS_IN = (CHUNK_H + R - 1) * SUB + STEP - 1,
    COLUMNS_IN = (CELLS_W + R - 1) * SUB + STEP - 1,
    ROW = COLUMNS_IN * C_IN,
    DOWN = (CHUNK_H + 1) / 2,
    ACROSS = (CELLS_W + 1) / 2,
    TILES = IMAGES * DOWN * ACROSS,
    BLOCKS = C_OUT / BLOCK,
    WINDOWS = IMAGES * ROWS_IN * ROW,                             // floats in scratch: a chunk's input, with its border,
    FACTORS = PRODUCTS * PLANE(TILES, K),                         // its factors,
    SCRATCH = WINDOWS + FACTORS + PRODUCTS * PLANE(TILES, BLOCK), // and the products of a block of channels
};

// The first cell of square t: image of the chunk, row and column.
INLINE int image_of(int t) { return t / (DOWN * ACROSS); }
INLINE int row_of(int t) { return smaller(t / ACROSS % DOWN * 2, CHUNK_H - 2); }
INLINE int column_of(int t) { return smaller(t % ACROSS * 2, CELLS_W - 2); }

// Computes the 2 x 2 outputs of a square in one phase for a block of channels: `at` is the first output, `m` the
// products.
INLINE void finish(float *out, const float *m, const float *scale, const float *bias, const float *add, long at, int c)
{
    EACH (v, VECTORS) {
        vec y[PRODUCTS];
        EACH (p, PRODUCTS) y[p] = load(m + p * PLANE(TILES, BLOCK) + v * LANES);
        BOTH_WAYS(to_outputs, y, T, 2);
        EACH (i, 4) {
            const long here = at + STEP * (i / 2 * OUT_W + i % 2) * (long)C_OUT + v * LANES;
            vec z = y[i / 2 * T + i % 2];
            if (FACTOR_BITS == 16) z *= load(scale + c + v * LANES) * (1.0f / FACTOR_TIMES);
            if (HAS_BIAS) z += load(bias + c + v * LANES);
            if (HAS_ADD) z += load(add + here);
            store(out + here, activate(z));
        }
    }
}

// Multiplies the factors `a` of TILE squares with the factors `u` of a block of channels, for one of the PRODUCTS.
INLINE void multiply(float *product, const float *a, const factor *u)
{
    vec sum[TILE][VECTORS];
    EACH (t, TILE) EACH (v, VECTORS) sum[t][v] = fill(0.0f);
    if (FACTOR_BITS == 32) accumulate(sum, a, 0, K, (const float *)u, 0, 0, K, 0);
    else for (int k = 0; k < K; k++, u += BLOCK) {
        vec b[VECTORS];
        EACH (v, VECTORS) b[v] = __builtin_convertvector(*(const packed_factors *)(u + v * LANES), vec);
        EACH (t, TILE) EACH (v, VECTORS) sum[t][v] += a[t * K + k] * b[v];
    }
    EACH (t, TILE) EACH (v, VECTORS) store(product + t * BLOCK + v * LANES, sum[t][v]);
}

// Computes one phase of a chunk for one group of channels; the chunk's padded input begins at `x`.
INLINE void phase(float *out, const float *x, const factor *u, const float *scale, const float *bias, const float *add,
                  float *factors, int image, int y0, int group, int py, int px)
{
    float *const products = factors + FACTORS;
    for (int t = 0; t < TILES; t++) {
        const int row = image_of(t) * ROWS_IN + row_of(t) * SUB, column = column_of(t) * SUB;
        window_factors(factors + t * K, x + row * ROW + column * C_IN, ROW, TILES, 0, K);
    }
    for (int block = BLOCKS * group / BLOCK_GROUPS; block < BLOCKS * (group + 1) / BLOCK_GROUPS; block++) {
        const int c = block * BLOCK;
        for (int p = 0; p < PRODUCTS; p++)
            for (int i = 0; i < TILES; i += TILE) {
                const int t = smaller(i, TILES - TILE);
                multiply(products + p * PLANE(TILES, BLOCK) + t * BLOCK, factors + p * PLANE(TILES, K) + t * K,
                         u + (((long)(py * 2 + px) * BLOCKS + block) * PRODUCTS + p) * K * BLOCK);
            }
        for (int t = 0; t < TILES; t++) {
            const long oy = (y0 + row_of(t)) * STEP + py, ox = column_of(t) * STEP + px;
            const long at = (((long)(image + image_of(t)) * OUT_H + oy) * OUT_W + ox) * C_OUT + c;
            finish(out, products + t * BLOCK, scale, bias, add, at, c);
        }
    }
}

// As convolution() in convolution.c, with the weights' factors `u` (phases, BLOCKS, PRODUCTS, K, BLOCK).
INLINE void winograd(float *restrict out, const float *restrict x, const factor *restrict u,
                     const float *restrict scale, const float *restrict bias, const float *restrict add,
                     const float *restrict y, float *restrict scratch, int core)
{
    enum { PARTS_H = CELLS_H / CHUNK_H, CHUNKS = (BATCH + IMAGES - 1) / IMAGES * PARTS_H,
           JOBS = CHUNKS * BLOCK_GROUPS };
    const long IMAGE = (long)IN_H * IN_W * C_IN;
    for (int job = (long)JOBS * core / THREADS; job < (long)JOBS * (core + 1) / THREADS; job++) {
        const int chunk = job % CHUNKS, group = job / CHUNKS;
        const int image = smaller(chunk / PARTS_H * IMAGES, BATCH - IMAGES), y0 = chunk % PARTS_H * CHUNK_H;
        for (int i = 0; i < IMAGES; i++) {
            const long at = (image + i) * IMAGE;
            copy_window(scratch + i * ROWS_IN * ROW, x + at, HAS_Y ? y + at : 0, IN_H, IN_W, C_IN,
                        y0 * SUB - PADDING, -PADDING, ROWS_IN, COLUMNS_IN);
        }
        for (int py = 0; py < STEP; py++)
            for (int px = 0; px < STEP; px++)
                phase(out, scratch + py * ROW + px * C_IN, u, scale, bias, add, scratch + WINDOWS, image, y0, group, py,
                      px);
    }
}
