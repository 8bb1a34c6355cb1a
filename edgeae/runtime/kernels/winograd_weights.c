// Computes the weights' factors for winograd.c, and turns the gradient of the factors into that of the weights.
//
// With SWAPPED the weights are stored as (ky, kx, C_OUT, C_IN), with TURNED their kernel is turned by 180 degrees: so a
// layer's own weights serve for its input's gradient.

enum { PHASES = STEP * STEP, SIDE = R * SUB * STEP, BLOCK = VECTORS * LANES };

// The place along one side of the SIDE x SIDE kernel of tap i of R, for a phase and a position in the SUB x SUB square.
INLINE int tap(int i, int sub, int phase)
{
    const int at = STEP == 2 ? 3 - phase - 2 * i : SUB * i + sub;
    return TURNED ? SIDE - 1 - at : at;
}

enum { DOWN = C_IN / LANES, ACROSS = C_OUT / LANES, SQUARES = PHASES * SUB * SUB * DOWN * ACROSS };

// LANES rows and columns of weights at one tap, from row k and column c on.
INLINE void load_square(vec *to, const weight *w, const float *scale, int tap, int k, int c)
{
    EACH (i, LANES)
        to[i] = SWAPPED ? load((const float *)w + ((long)tap * C_OUT + c + i) * C_IN + k)
                        : weights(w, scale, (long)tap * C_IN + k + i, c);
    if (SWAPPED) transpose(to);
    if (WEIGHT_BITS == 8 && FACTOR_BITS == 32) EACH (i, LANES) to[i] *= load(scale + c);
}

// u (PHASES, blocks of BLOCK channels, PRODUCTS, K, BLOCK), in the order in which winograd.c reads it, from w (SIDE,
// SIDE, C_IN, C_OUT); the work is the squares of LANES x LANES weights.
INLINE void winograd_weights(factor *restrict u, const weight *restrict w, const float *restrict scale, int core)
{
    for (int job = (long)SQUARES * core / THREADS; job < (long)SQUARES * (core + 1) / THREADS; job++) {
        const int c = job % ACROSS * LANES, k = job / ACROSS % DOWN * LANES;
        const int sub = job / (ACROSS * DOWN) % (SUB * SUB), phase = job / (ACROSS * DOWN * SUB * SUB);
        vec g[R * R][LANES];
        for (int i = 0; i < R * R; i++)
            load_square(g[i], w, scale,
                        tap(i / R, sub / SUB, phase / 2) * SIDE + tap(i % R, sub % SUB, phase % 2), k, c);
        for (int i = 0; i < LANES; i++) {
            vec square[PRODUCTS];
            EACH (j, R * R) square[j / R * T + j % R] = g[j][i];
            BOTH_WAYS(from_weights, square, R, T);
            const long row = ((long)phase * C_OUT + c) / BLOCK * PRODUCTS * K + sub * C_IN + k + i;
            EACH (p, PRODUCTS) {
                factor *const to = u + (row + p * K) * BLOCK + c % BLOCK;
                *(packed_factors *)to = __builtin_convertvector(square[p] * FACTOR_TIMES, packed_factors);
            }
        }
    }
}

// dw (SIDE, SIDE, C_IN, C_OUT), or SWAPPED (SIDE, SIDE, C_OUT, C_IN), from the PARTS of du (PARTS, PRODUCTS, K, C_OUT).
INLINE void winograd_weights_gradient(float *restrict dw, const float *restrict du, int core)
{
    for (int job = (long)SQUARES * core / THREADS; job < (long)SQUARES * (core + 1) / THREADS; job++) {
        const int c = job % ACROSS * LANES, k = job / ACROSS % DOWN * LANES, sub = job / (ACROSS * DOWN);
        vec g[R * R][LANES];
        for (int i = 0; i < LANES; i++) {
            vec square[PRODUCTS];
            EACH (p, PRODUCTS) {
                square[p] = fill(0.0f);
                for (int part = 0; part < PARTS; part++)
                    square[p] += load(du + (((long)part * PRODUCTS + p) * K + sub * C_IN + k + i) * C_OUT + c);
            }
            BOTH_WAYS(to_weights, square, T, R);
            EACH (j, R * R) g[j][i] = square[j / R * T + j % R];
        }
        for (int j = 0; j < R * R; j++) {
            const long at = tap(j / R, sub / SUB, 0) * SIDE + tap(j % R, sub % SUB, 0);
            if (SWAPPED) transpose(g[j]);
            EACH (i, LANES)
                store(dw + (SWAPPED ? (at * C_OUT + c + i) * C_IN + k : (at * C_IN + k + i) * C_OUT + c), g[j][i]);
        }
    }
}
