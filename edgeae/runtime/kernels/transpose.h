// LANES vectors of LANES numbers, rows to columns: each step is one perfect shuffle of all the numbers.
INLINE void transpose(vec *v)
{
    vec u[LANES];
    UNROLL for (int step = 1; step < LANES; step *= 2) {
        EACH (i, LANES) u[i] = v[i % 2 * (LANES / 2) + i / 2];
        UNROLL for (int i = 0; i < LANES; i += 2) interleave_2(u + i);
        EACH (i, LANES) v[i] = u[i];
    }
}
