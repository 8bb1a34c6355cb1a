// Reorders a convolution's weights for the convolution that computes its input's gradient: (SIDE, SIDE, C_IN, C_OUT) to
// (SIDE, SIDE, C_OUT, C_IN), TURNED by 180 degrees where the size is kept. A job is a square of LANES x LANES weights.

enum { DOWN = C_IN / LANES, ACROSS = C_OUT / LANES, SQUARES = SIDE * SIDE * DOWN * ACROSS };

INLINE void swap(float *restrict to, const float *restrict w, int core)
{
    for (int job = (long)SQUARES * core / THREADS; job < (long)SQUARES * (core + 1) / THREADS; job++) {
        const int k = job % DOWN * LANES, c = job / DOWN % ACROSS * LANES, tap = job / (DOWN * ACROSS);
        vec v[LANES];
        EACH (i, LANES) v[i] = load(w + ((long)(TURNED ? SIDE * SIDE - 1 - tap : tap) * C_IN + k + i) * C_OUT + c);
        transpose(v);
        EACH (i, LANES) store(to + ((long)tap * C_OUT + c + i) * C_IN + k, v[i]);
    }
}
