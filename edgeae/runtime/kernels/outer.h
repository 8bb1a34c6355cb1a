// The inner loop of weight_gradient.c and winograd_gradient.c: sums of outer products. Its tile, TILE inputs by VECTORS
// * LANES channels, stays in registers.

// sum[input][vector] += a * b over n steps, `a_step` and `b_step` floats apart.
INLINE void accumulate(vec sum[TILE][VECTORS], const float *a, int a_step, const float *b, int b_step, int n)
{
    for (int i = 0; i < n; i++, a += a_step, b += b_step) {
        vec e[VECTORS];
        EACH (v, VECTORS) e[v] = load(b + v * LANES);
        EACH (r, TILE) EACH (v, VECTORS) sum[r][v] += a[r] * e[v];
    }
}
