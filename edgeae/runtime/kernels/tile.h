// The inner loop of convolution.c and winograd.c, where the time is spent. Its tile, TILE_H x TILE_W positions by
// VECTORS * LANES output channels, stays in registers.

enum { TILE = TILE_H * TILE_W, BLOCK = VECTORS * LANES };

// sum[position][vector] += input * weights over n inputs that follow one another, from `x` and weight row k on. The
// inputs of neighbouring positions are `row` and `column` floats apart.
INLINE void accumulate(vec sum[TILE][VECTORS], const float *x, int row, int column, const weight *w, const float *scale,
                       long k, int n, int c)
{
    int i = 0;
#if LANES == 4 && defined(__aarch64__)
    for (; i + 4 <= n; i += 4) { // four inputs a load, multiplied by lane
        vec a[TILE];
        EACH (p, TILE) a[p] = load(x + p / TILE_W * row + p % TILE_W * column + i);
        EACH (j, 4) {
            vec b[VECTORS];
            EACH (v, VECTORS) b[v] = weights(w, scale, k + i + j, c + v * LANES);
            EACH (p, TILE) EACH (v, VECTORS) sum[p][v] += b[v] * a[p][j];
        }
    }
#endif
    for (; i < n; i++) {
        vec b[VECTORS];
        EACH (v, VECTORS) b[v] = weights(w, scale, k + i, c + v * LANES);
        EACH (p, TILE) {
            const float a = x[p / TILE_W * row + p % TILE_W * column + i];
            EACH (v, VECTORS) sum[p][v] += a * b[v];
        }
    }
}
