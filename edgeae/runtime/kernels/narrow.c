// Convolution of stride 1, or transposed convolution of stride 2, to at most four channels: too few to fill vectors, so
// lanes are pixels.
//
// Cells and phases (STEP) are as in convolution.c. The input rows of a window are first transposed from (column,
// channel) to (channel, column), so that neighbouring pixels of one channel form a vector. A tile is VECTORS * LANES
// cells of a row, with all channels and all phases of an output row; its sums stay in registers, and the weights are
// single numbers.

enum {
    CELLS_H = OUT_H / STEP,
    CELLS_W = OUT_W / STEP,
    TILE_W = VECTORS * LANES,
    ACROSS = (CELLS_W + TILE_W - 1) / TILE_W,
    WINDOW = KERNEL + STEP - 1,                                  // rows, and columns, that a cell reads
    PLANE = ACROSS * TILE_W + LANES,                             // one row of one channel
    SIDE = STEP == 1 ? KERNEL : 4,                               // of the weights as they are stored
    WEIGHTS = SIDE * SIDE * C_IN,
    ROWS = WINDOW * C_IN * PLANE,                                // floats in scratch: the transposed rows,
    SCRATCH = ROWS + (WEIGHT_BITS == 32 ? 0 : WEIGHTS * C_OUT),  // and the weights, if they are not stored as floats
};

// Transposes n <= LANES pixels of C_IN channels into n columns of C_IN planes.
INLINE void turn(float *to, const float *from, int n)
{
    int c = 0;
    for (; n == LANES && c + LANES <= C_IN; c += LANES) {
        vec v[LANES];
        EACH (i, LANES) v[i] = load(from + i * C_IN + c);
        transpose(v);
        EACH (i, LANES) store(to + (c + i) * PLANE, v[i]);
    }
    for (; c < C_IN; c++)
        for (int i = 0; i < n; i++) to[c * PLANE + i] = from[i * C_IN + c];
}

// Computes the n outputs of one tile in phase row py. `x` is a ring of WINDOW rows that begins at the tile's first
// column: input row r is row r % WINDOW of it. `top` is the first row that the phase reads.
INLINE void tile(float *out, const float *x, int top, const float *w, const float *bias, const float *add, int py,
                 int n)
{
    vec sum[C_OUT][VECTORS][STEP];
    EACH (c, C_OUT) EACH (v, VECTORS) EACH (px, STEP)
        sum[c][v][px] = fill(HAS_BIAS ? bias[c] : 0.0f);
    for (int ky = 0; ky < KERNEL; ky++) {
        const float *row = x + (top + ky) % WINDOW * C_IN * PLANE;
        const float *wk = w + (STEP == 1 ? ky : 3 - py - 2 * ky) * SIDE * C_IN * C_OUT;
        for (int ci = 0; ci < C_IN; ci++, row += PLANE, wk += C_OUT)
            EACH (j, WINDOW) EACH (v, VECTORS) {
                const vec a = load(row + j + v * LANES);
                EACH (px, STEP) {
                    const int kx = j - px;
                    if (kx < 0 || kx >= KERNEL) continue;
                    EACH (c, C_OUT)
                        sum[c][v][px] += a * wk[(STEP == 1 ? kx : 3 - px - 2 * kx) * C_IN * C_OUT + c];
                }
            }
    }
    float pixels[TILE_W * STEP * C_OUT]; // the sums in the order of the output: (column, phase, channel)
    EACH (v, VECTORS) {
        vec z[STEP][C_OUT];
        EACH (c, C_OUT) {
            if (STEP == 2) interleave_2(sum[c][v]);
            EACH (px, STEP) z[px][c] = sum[c][v][px];
        }
        EACH (px, STEP) {
            INTERLEAVE(z[px]);
            EACH (c, C_OUT) store(pixels + ((v * STEP + px) * C_OUT + c) * LANES, z[px][c]);
        }
    }
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        store(out + i, activate(HAS_ADD ? load(pixels + i) + load(add + i) : load(pixels + i)));
    for (; i < n; i++) out[i] = activate(fill(HAS_ADD ? pixels[i] + add[i] : pixels[i]))[0];
}

// Transposes row y of an image, with zeros around it.
INLINE void turn_row(float *to, const float *image, int y)
{
    zero(to, C_IN * PLANE);
    if (y < 0 || y >= IN_H) return;
    for (int x = 0; x < IN_W; x += LANES)
        turn(to + PADDING + x, image + ((long)y * IN_W + x) * C_IN, smaller(LANES, IN_W - x));
}

// Converts all weights to floats.
INLINE const float *widened(float *to, const weight *w, const float *scale)
{
    for (int k = 0; k < WEIGHTS; k++)
        for (int c = 0; c < C_OUT; c++) to[k * C_OUT + c] = weight_at(w, scale, k, c);
    return to;
}

// out (BATCH, OUT_H, OUT_W, C_OUT) from x (BATCH, IN_H, IN_W, C_IN). A job is a chunk of CHUNK_H rows of cells. Each
// core has SCRATCH floats of its own at `scratch`.
INLINE void narrow(float *restrict out, const float *restrict x, const weight *restrict w, const float *restrict scale,
                   const float *restrict bias, const float *restrict add, float *restrict scratch, int core)
{
    enum { DOWN = (CELLS_H + CHUNK_H - 1) / CHUNK_H, JOBS = BATCH * DOWN };
    float *const rows = scratch;
    const float *const table = WEIGHT_BITS == 32 ? (const float *)w : widened(scratch + ROWS, w, scale);
    for (int job = (long)JOBS * core / THREADS; job < (long)JOBS * (core + 1) / THREADS; job++) {
        const int image = job / DOWN, y0 = smaller(job % DOWN * CHUNK_H, CELLS_H - CHUNK_H);
        for (int y = 0; y < CHUNK_H; y++) {
            for (int r = y ? y + WINDOW - 1 : 0; r < y + WINDOW; r++)
                turn_row(rows + r % WINDOW * C_IN * PLANE, x + (long)image * IN_H * IN_W * C_IN, y0 + r - PADDING);
            if (y0 + y + WINDOW - PADDING < IN_H) // the row that is transposed next
                prefetch(x + ((long)image * IN_H + y0 + y + WINDOW - PADDING) * IN_W * C_IN, IN_W * C_IN);
            for (int py = 0; py < STEP; py++)
                for (int column = 0; column < CELLS_W; column += TILE_W) {
                    const long at = (((long)image * OUT_H + (y0 + y) * STEP + py) * OUT_W + column * STEP) * C_OUT;
                    tile(out + at, rows + column, y + py, table, bias, HAS_ADD ? add + at : 0, py,
                         smaller(TILE_W, CELLS_W - column) * STEP * C_OUT);
                }
        }
    }
}
