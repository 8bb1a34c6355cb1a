// AdamW (Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019) on all parameters of a network, in place.

typedef struct {
    float *w, *m, *v; // the parameter and its moments
    const float *g;   // its gradient
    long n;
    float decay;
} parameter;

// sqrt(x), exact to the last bit or two, without the library's function: three steps of Newton's method from a guess at
// 1 / sqrt(x).
INLINE vec square_root(vec x)
{
    vec y = (vec)(0x5f3759df - ((ivec)x >> 1));
    EACH (i, 3) y *= 1.5f - 0.5f * x * y * y;
    return x * y;
}

// One step for LANES numbers. `rate` holds the learning rate, 1 - beta1^t and 1 - beta2^t for step t, and the share of
// the gradient that counts (training/optimizer.py shortens gradients that are far longer than usual).
INLINE void step(vec *w, vec *m, vec *v, vec g, float decay, const float *rate)
{
    g *= rate[3];
    *m = BETA1 * *m + (1.0f - BETA1) * g;
    *v = BETA2 * *v + (1.0f - BETA2) * (g * g);
    *w -= rate[0] * (*m / rate[1] / (square_root(*v / rate[2]) + EPSILON) + decay * *w);
}

// All parameters; each core takes its share of the numbers of each.
INLINE void adamw(const parameter *all, int count, const float *rate, int core)
{
    for (const parameter *p = all; p < all + count; p++) {
        const long end = p->n * (core + 1) / THREADS;
        long i = p->n * core / THREADS;
        for (; i + LANES <= end; i += LANES) {
            vec w = load(p->w + i), m = load(p->m + i), v = load(p->v + i);
            step(&w, &m, &v, load(p->g + i), p->decay, rate);
            store(p->w + i, w);
            store(p->m + i, m);
            store(p->v + i, v);
        }
        for (; i < end; i++) {
            vec w = fill(p->w[i]), m = fill(p->m[i]), v = fill(p->v[i]);
            step(&w, &m, &v, fill(p->g[i]), p->decay, rate);
            p->w[i] = w[0];
            p->m[i] = m[0];
            p->v[i] = v[0];
        }
    }
}
