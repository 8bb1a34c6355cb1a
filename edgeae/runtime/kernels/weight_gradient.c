// The gradient of a convolution's weights and bias: lanes are the channels of the `small` tensor.
//
// With `big` (BATCH, IN_H, IN_W, C_IN) and `small` (BATCH, OUT_H, OUT_W, C_OUT), and sums over images and pixels,
//
//     dw[ky][kx, ci][co] = sum of big[STRIDE * y + ky - PADDING][STRIDE * x + kx - PADDING][ci] * small[y][x][co]
//
// For a convolution `big` is its input and `small` the gradient of its output (the error); for a transposed one, the
// other way round. A tile is TILE neighbouring (kx, ci) by VECTORS * LANES channels; its sums stay in registers while
// it goes through a chunk, which is CHUNK_H rows of `small` of IMAGES images.
//
// dw (PARTS, KERNEL, RUN, WIDTH) has its last two axes padded to whole tiles; db is (PARTS, C of the error). The batch
// is cut into PARTS, each summed by itself, so that the result does not depend on the number of threads. The caller
// adds the parts.

enum {
    BLOCK = VECTORS * LANES,
    BLOCKS = (C_OUT + BLOCK - 1) / BLOCK,
    ACROSS = (KERNEL * C_IN + TILE - 1) / TILE,
    RUN = ACROSS * TILE,
    WIDTH = BLOCKS * BLOCK,
    ROWS_IN = (CHUNK_H - 1) * STRIDE + KERNEL,                   // what a chunk of CHUNK_H rows of `small` reads
    COLUMNS_IN = (OUT_W - 1) * STRIDE + KERNEL,
    ROW = COLUMNS_IN * C_IN,
    TILES = BLOCKS * KERNEL * ACROSS,
    ERROR_C = ERROR_IS_BIG ? C_IN : C_OUT,
    ERROR_ROW = ERROR_IS_BIG ? IN_W * C_IN : OUT_W * C_OUT,
};

INLINE void tile(float *dw, const float *big, const float *small, int images, int rows, int is_first)
{
    vec sum[TILE][VECTORS];
    EACH (r, TILE) EACH (v, VECTORS)
        sum[r][v] = is_first ? fill(0.0f) : load(dw + r * WIDTH + v * LANES);
    for (int i = 0; i < images; i++)
        for (int y = 0; y < rows; y++)
            accumulate(sum, big + (i * ROWS_IN + y * STRIDE) * ROW, STRIDE * C_IN,
                       small + (i * CHUNK_H + y) * OUT_W * WIDTH, WIDTH, OUT_W);
    EACH (r, TILE) EACH (v, VECTORS)
        store(dw + r * WIDTH + v * LANES, sum[r][v]);
}

// Adds the rows of a chunk of the error to `sum`, which is one row. Rows of `big` have a border, pixels of `small`
// padding.
INLINE void sum_rows(float *sum, const float *error, int rows)
{
    const int is_packed = ERROR_IS_BIG || WIDTH == C_OUT, n = is_packed ? ERROR_ROW : C_OUT;
    if (ERROR_IS_BIG) error += PADDING * (ROW + C_IN);
    for (int r = 0; r < (ERROR_IS_BIG ? STRIDE * rows : rows); r++)
        for (int x = 0; x < (is_packed ? 1 : OUT_W); x++) {
            const float *from = error + (ERROR_IS_BIG ? r * ROW : (r * OUT_W + x) * WIDTH);
            float *to = sum + x * C_OUT;
            add_to(to, from, n);
        }
}

// Sums images [from, to): tiles [first, end) of dw and, with the last of them, db, the sum of the error. ERROR_IS_BIG
// says which of the two is the error. `y`, of the shape of the error, is the layer's output.
INLINE void part(float *dw, float *db, const float *big, const float *small, const float *y, int from, int to,
                 int first, int end)
{
    const long BIG = (long)IN_H * IN_W * C_IN, SMALL = (long)OUT_H * OUT_W * C_OUT;
    float big_chunk[IMAGES * ROWS_IN * ROW + TILE], small_chunk[IMAGES * CHUNK_H * OUT_W * WIDTH], error_sum[ERROR_ROW];
    const float *big_y = HAS_Y && ERROR_IS_BIG ? y : 0, *small_y = HAS_Y && !ERROR_IS_BIG ? y : 0;
    zero(big_chunk + IMAGES * ROWS_IN * ROW, TILE);
    zero(error_sum, ERROR_ROW);
    for (int image = from; image < to; image += IMAGES)
        for (int y0 = 0; y0 < OUT_H; y0 += CHUNK_H) {
            const int images = smaller(IMAGES, to - image), rows = smaller(CHUNK_H, OUT_H - y0);
            for (int i = 0; i < images; i++) {
                float *b = big_chunk + i * ROWS_IN * ROW, *s = small_chunk + i * CHUNK_H * OUT_W * WIDTH;
                const long at = (image + i) * SMALL + y0 * OUT_W * C_OUT;
                copy_window(b, big + (image + i) * BIG, big_y ? big_y + (image + i) * BIG : 0, IN_H, IN_W, C_IN,
                            y0 * STRIDE - PADDING, -PADDING, (rows - 1) * STRIDE + KERNEL, COLUMNS_IN);
                for (int p = 0; p < (WIDTH == C_OUT ? 1 : rows * OUT_W); p++) {
                    const int n = WIDTH == C_OUT ? rows * OUT_W * C_OUT : C_OUT;
                    copy(s + p * WIDTH, small + at + p * C_OUT, small_y ? small_y + at + p * C_OUT : 0, n);
                    zero(s + p * WIDTH + n, WIDTH - C_OUT);
                }
                if (end == TILES) sum_rows(error_sum, ERROR_IS_BIG ? b : s, rows);
            }
            for (int t = first; t < end; t++) {
                const int block = t / (KERNEL * ACROSS), ky = t / ACROSS % KERNEL, r = t % ACROSS * TILE;
                tile(dw + ((long)ky * RUN + r) * WIDTH + block * BLOCK, big_chunk + ky * ROW + r,
                     small_chunk + block * BLOCK, images, rows, image == from && y0 == 0);
            }
        }
    if (end == TILES) sum_channels(db, error_sum, ERROR_C, ERROR_ROW);
}

// A job is a tile of a part.
INLINE void weight_gradient(float *restrict dw, float *restrict db, const float *restrict big,
                            const float *restrict small, const float *restrict y, int core)
{
    const int first = (long)PARTS * TILES * core / THREADS, end = (long)PARTS * TILES * (core + 1) / THREADS;
    for (int p = first / TILES; p * TILES < end; p++)
        part(dw + (long)p * KERNEL * RUN * WIDTH, db + p * ERROR_C, big, small, y, BATCH * p / PARTS,
             BATCH * (p + 1) / PARTS, p * TILES < first ? first - p * TILES : 0, smaller(end - p * TILES, TILES));
}
