// Convolution, or transposed convolution of stride 2, with bias, addition and activation: lanes are output channels.
//
// A cell is the STEP x STEP square of outputs of one input position: one output of a convolution (STEP 1), or the 2 x 2
// outputs, called phases, of a transposed one (STEP 2). Phase (py, px) is itself a KERNEL x KERNEL convolution.
//
// The work is cut three times (plans.py chooses the sizes):
//   - a job is one chunk, CHUNK_H x CHUNK_W cells of an image, for one group of output channels; its input is copied to
//     scratch memory with its border of zeros, so that the loops below need no test for the border;
//   - a tile is TILE_H x TILE_W cells of a chunk by a block of VECTORS * LANES channels; its sums stay in registers
//     while the sum runs over the window and the input channels;
//   - a step of that sum multiplies one number per cell with VECTORS vectors of weights (tile.h).
// Where tiles do not divide a chunk, chunks the image, or blocks the channels, the last one starts early. What overlaps
// is computed twice, to the same bits.

enum {
    CELLS_H = OUT_H / STEP,
    CELLS_W = OUT_W / STEP,
    ROWS_IN = (CHUNK_H - 1) * STRIDE + KERNEL + STEP - 1,        // what a chunk of CHUNK_H x CHUNK_W cells reads
    COLUMNS_IN = (CHUNK_W - 1) * STRIDE + KERNEL + STEP - 1,
    ROW = COLUMNS_IN * C_IN,
    RUN = STEP == 1 ? KERNEL * C_IN : C_IN,                      // inputs in a row whose weights are in a row, too
    WEIGHT_ROWS = KERNEL * KERNEL * STEP * STEP * C_IN,
    SCRATCH = ROWS_IN * ROW,                                     // floats: a chunk's input, with its border
};

// Computes one tile. Its window begins at `x`; its first output is number `at`, in channel c and phase (py, px).
INLINE void tile(float *out, const float *x, const weight *w, const float *scale, const float *bias, const float *add,
                 long at, int c, int py, int px)
{
    vec sum[TILE][VECTORS];
    EACH (p, TILE) EACH (v, VECTORS) sum[p][v] = fill(0.0f);
    const int row = STRIDE * ROW, column = STRIDE * C_IN, cw = c % WEIGHT_ROW;
    w += (long)(c - cw) * WEIGHT_ROWS;
    for (int ky = 0; ky < KERNEL; ky++) {
        if (STEP == 1) accumulate(sum, x + ky * ROW, row, column, w, scale, (long)ky * RUN, RUN, cw);
        else for (int kx = 0; kx < KERNEL; kx++) // a phase reads every second of the 4 x 4 weights, in reverse
            accumulate(sum, x + ky * ROW + kx * C_IN, row, column, w, scale,
                       ((3 - py - 2 * ky) * 4 + 3 - px - 2 * kx) * (long)C_IN, C_IN, cw);
    }
    EACH (p, TILE) EACH (v, VECTORS) {
        const long here = at + STEP * (p / TILE_W * OUT_W + p % TILE_W) * (long)C_OUT + v * LANES;
        vec z = sum[p][v];
        if (WEIGHT_BITS == 8) z *= load(scale + c + v * LANES);
        if (HAS_BIAS) z += load(bias + c + v * LANES);
        if (HAS_ADD) z += load(add + here);
        store(out + here, activate(z));
    }
}

// out (BATCH, OUT_H, OUT_W, C_OUT) from x (BATCH, IN_H, IN_W, C_IN). Jobs are ordered by group first: a core computes
// all chunks of one group before those of the next, and reads the weights of few groups. Each core has SCRATCH floats
// of its own at `scratch`.
INLINE void convolution(float *restrict out, const float *restrict x, const weight *restrict w,
                        const float *restrict scale, const float *restrict bias, const float *restrict add,
                        const float *restrict y, float *restrict scratch, int core)
{
    enum { DOWN = (CELLS_H + CHUNK_H - 1) / CHUNK_H, ACROSS = (CELLS_W + CHUNK_W - 1) / CHUNK_W,
           BLOCKS = (C_OUT + BLOCK - 1) / BLOCK, CHUNKS = BATCH * DOWN * ACROSS, JOBS = CHUNKS * BLOCK_GROUPS };
    const long IMAGE = (long)IN_H * IN_W * C_IN;
    const int first = (long)JOBS * core / THREADS, end = (long)JOBS * (core + 1) / THREADS;
    for (int job = first; job < end; job++) {
        const int chunk = job % CHUNKS, group = job / CHUNKS;
        const int image = chunk / (DOWN * ACROSS);
        const int y0 = smaller(chunk / ACROSS % DOWN * CHUNK_H, CELLS_H - CHUNK_H);
        const int x0 = smaller(chunk % ACROSS * CHUNK_W, CELLS_W - CHUNK_W);
        if (job == first || CHUNKS > 1)
            copy_window(scratch, x + image * IMAGE, HAS_Y ? y + image * IMAGE : 0, IN_H, IN_W, C_IN,
                        y0 * STRIDE - PADDING, x0 * STRIDE - PADDING, ROWS_IN, COLUMNS_IN);
        for (int phase = 0; phase < STEP * STEP; phase++)
            for (int block = BLOCKS * group / BLOCK_GROUPS; block < BLOCKS * (group + 1) / BLOCK_GROUPS; block++)
                for (int ty = 0; ty < CHUNK_H; ty += TILE_H)
                    for (int tx = 0; tx < CHUNK_W; tx += TILE_W) {
                        const int c = smaller(block * BLOCK, C_OUT - BLOCK), py = phase / 2, px = phase % 2;
                        const int row = smaller(ty, CHUNK_H - TILE_H), column = smaller(tx, CHUNK_W - TILE_W);
                        const long oy = (y0 + row) * STEP + py, ox = (x0 + column) * STEP + px;
                        tile(out, scratch + (row * STRIDE + py) * ROW + (column * STRIDE + px) * C_IN, w, scale, bias,
                             add, ((image * (long)OUT_H + oy) * OUT_W + ox) * C_OUT + c, c, py, px);
                    }
    }
}
