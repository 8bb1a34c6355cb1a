// Convolution.c's sums with fewer multiplications (winograd.h): 3 x 3 of stride 1, 4 x 4 of stride 2 as 2 x 2 on squares
// of pixels (SUB = 2), and transposed 4 x 4 as its 2 x 2 phases (STEP = 2).
//
// A chunk is IMAGES images by CHUNK_H rows of cells, cut into TILES squares of 2 x 2. Its windows become factors; each of
// the PRODUCTS is a matrix product with the weights' factors, from winograd_weights.c; and the products become outputs.

enum {
    CELLS_H = OUT_H / STEP,
    CELLS_W = OUT_W / STEP,
    ROWS_IN = (CHUNK_H + R - 1) * SUB + STEP - 1,
    COLUMNS_IN = (CELLS_W + R - 1) * SUB + STEP - 1,
    ROW = COLUMNS_IN * C_IN,
    DOWN = CHUNK_H / 2,
    ACROSS = CELLS_W / 2,
    TILES = IMAGES * DOWN * ACROSS,
};

// The 2 x 2 cells of a tile in one phase: `at` is where the first stands, `m` its products, of a block.
INLINE void finish(float *out, const float *m, const float *bias, const float *add, long at, int c)
{
    UNROLL for (int v = 0; v < VECTORS; v++) {
        vec y[PRODUCTS];
        UNROLL for (int p = 0; p < PRODUCTS; p++) y[p] = load(m + p * PLANE(TILES, BLOCK) + v * LANES);
        BOTH_WAYS(to_outputs, y, T, 2);
        UNROLL for (int i = 0; i < 4; i++) {
            const long here = at + STEP * (i / 2 * OUT_W + i % 2) * (long)C_OUT + v * LANES;
            vec z = y[i / 2 * T + i % 2];
            if (HAS_BIAS) z += load(bias + c + v * LANES);
            if (HAS_ADD) z += load(add + here);
            store(out + here, activate(z));
        }
    }
}

// One phase of a chunk, whose padded input begins at `x`.
INLINE void phase(float *out, const float *x, const float *u, const float *bias, const float *add, int image, int y0, int py,
                  int px)
{
    float factors[PRODUCTS * PLANE(TILES, K)], products[PRODUCTS * PLANE(TILES, BLOCK)];
    for (int t = 0; t < TILES; t++)
        window_factors(factors + t * K, x + ((long)t / (DOWN * ACROSS) * ROWS_IN + t / ACROSS % DOWN * 2 * SUB) * ROW +
                                            t % ACROSS * 2 * SUB * C_IN, ROW, TILES, 0, K);
    for (int block = 0; block < C_OUT; block += BLOCK) {
        const int c = smaller(block, C_OUT - BLOCK);
        for (int p = 0; p < PRODUCTS; p++)
            for (int i = 0; i < TILES; i += TILE) {
                const int t = smaller(i, TILES - TILE);
                vec sum[TILE][VECTORS];
                UNROLL for (int j = 0; j < TILE; j++) UNROLL for (int v = 0; v < VECTORS; v++) sum[j][v] = fill(0.0f);
                accumulate(sum, factors + p * PLANE(TILES, K) + t * K, 0, K, u, 0, ((long)(py * 2 + px) * PRODUCTS + p) * K, K, c);
                UNROLL for (int j = 0; j < TILE; j++) UNROLL for (int v = 0; v < VECTORS; v++)
                    store(products + p * PLANE(TILES, BLOCK) + (t + j) * BLOCK + v * LANES, sum[j][v]);
            }
        for (int t = 0; t < TILES; t++) {
            const long oy = (y0 + t / ACROSS % DOWN * 2) * STEP + py, ox = t % ACROSS * 2 * STEP + px;
            const long at = (((long)(image + t / (DOWN * ACROSS)) * OUT_H + oy) * OUT_W + ox) * C_OUT + c;
            finish(out, products + t * BLOCK, bias, add, at, c);
        }
    }
}

// As convolution() in convolution.c, with the weights' factors `u` (phases, PRODUCTS, K, C_OUT).
INLINE void winograd(float *restrict out, const float *restrict x, const float *restrict u, const float *restrict bias,
                     const float *restrict add, const float *restrict y, int core)
{
    enum { CHUNKS = CELLS_H / CHUNK_H, JOBS = (BATCH + IMAGES - 1) / IMAGES * CHUNKS };
    const long IMAGE = (long)IN_H * IN_W * C_IN;
    float scratch[IMAGES * ROWS_IN * ROW];
    for (int job = (long)JOBS * core / THREADS; job < (long)JOBS * (core + 1) / THREADS; job++) {
        const int image = smaller(job / CHUNKS * IMAGES, BATCH - IMAGES), y0 = job % CHUNKS * CHUNK_H;
        for (int i = 0; i < IMAGES; i++)
            copy_window(scratch + i * ROWS_IN * ROW, x + (image + i) * IMAGE, GRADIENT_OF ? y + (image + i) * IMAGE : 0, IN_H,
                        IN_W, C_IN, y0 * SUB - PADDING, -PADDING, ROWS_IN, COLUMNS_IN);
        for (int py = 0; py < STEP; py++)
            for (int px = 0; px < STEP; px++)
                phase(out, scratch + py * ROW + px * C_IN, u, bias, add, image, y0, py, px);
    }
}
