struct NAME {
    void *memory;
    size_t memory_bytes;
    // Parts of it: what the layers give, what cores need for themselves, what is made of the weights, two images' features.
    float *values;
    workspace *scratch;
    float *weights, *walk;
    int threads;

    // The job: steps [first, end) for `count` images.
    int first, end, count;
    const char *in;
    char *out;
    ptrdiff_t in_stride, out_stride;
    int in_floats, out_floats;
#ifndef NAME_WITHOUT_THREADS
    pthread_t workers[NAME_THREADS];
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    int started;                     // workers
    pid_t process;                   // whose threads they are: a forked one has none of them
    int caller_at;                   // the processor core that they are kept away from
    char gap0[64];
    _Atomic uint64_t offer;          // the shares of a job that are still to be had, see `offered`
    char gap1[64];
    atomic_uint finished;            // shares of the job
    char gap2[64];
    atomic_int asleep, stop;
#endif
};

// ---- the network ---------------------------------------------------------------------------------------------------

@NETWORK@
// ---- images in and out -----------------------------------------------------------------------------------------------

static ptrdiff_t row_bytes(int channels, int floats) { return (ptrdiff_t)NAME_WIDTH * channels * (floats ? 4 : 1); }

// The share of a core of the rows of all images.
#define EACH_ROW(row, core) \
    for (int row = BATCH_ROWS * (core) / NAME_THREADS; row < BATCH_ROWS * ((core) + 1) / NAME_THREADS; row++)
enum { BATCH_ROWS = NAME_BATCH * NAME_HEIGHT };

static void load_images(const NAME *h, int core)
{
    enum { N = NAME_WIDTH * NAME_CHANNELS_IN };
    EACH_ROW (row, core) {
        int image = row / NAME_HEIGHT;
        if (image >= h->count) image = h->count - 1; // what a batch has too much
        const char *from = h->in + ((ptrdiff_t)image * NAME_HEIGHT + row % NAME_HEIGHT) * h->in_stride;
        float *to = h->values + AT_IMAGE + (size_t)row * N;
        if (h->in_floats) memcpy(to, from, 4 * N);
        else for (int i = 0; i < N; i++) to[i] = (float)((const uint8_t *)from)[i] * (1.0f / 255.0f);
    }
}

static void store_images(const NAME *h, int core)
{
    enum { N = NAME_WIDTH * NAME_CHANNELS_OUT };
    EACH_ROW (row, core) {
        if (row / NAME_HEIGHT >= h->count) return;
        const float *from = h->values + AT_OUTPUT + (size_t)row * N;
        char *to = h->out + (ptrdiff_t)row * h->out_stride;
        if (h->out_floats) memcpy(to, from, 4 * N);
        else for (int i = 0; i < N; i++) ((uint8_t *)to)[i] = (uint8_t)(from[i] * 255.0f + 0.5f); // of [0, 1]
    }
}

static void step(const NAME *h, int number, int core)
{
    if (number == 0) load_images(h, core);
    else if (number == STEPS - 1) store_images(h, core);
    else run_layer(h, number, core);
}

// ---- threads -----------------------------------------------------------------------------------------------------

#ifdef NAME_WITHOUT_THREADS

static void run_job(NAME *h)
{
    for (int number = h->first; number < h->end; number++)
        for (int core = 0; core < NAME_THREADS; core++) step(h, number, core);
}

static int start_workers(NAME *h) { h->threads = 1; return NAME_OK; }
static void stop_workers(NAME *h) { (void)h; }

#else

enum { SPINS = 4000 }; // some 100 microseconds; then a waiting thread lets others run

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__arm__) && __ARM_ARCH >= 7)
    __asm__ volatile("yield");
#endif
}

// A job is its steps, each cut into NAME_THREADS shares whose results do not depend on who computes them. Whoever is awake
// takes the next one: the caller waits for no thread that is still asleep. An offer is the number of the job, how many
// shares it has, and how many of these are taken.
static uint64_t offered(uint64_t job, unsigned shares, unsigned taken) { return job << 40 | (uint64_t)shares << 20 | taken; }
static unsigned shares_of(uint64_t offer) { return (unsigned)(offer >> 20) & 0xfffff; }
static unsigned taken_of(uint64_t offer) { return (unsigned)offer & 0xfffff; }
static int has_shares(uint64_t offer) { return taken_of(offer) < shares_of(offer); }

static void wait_until_finished(NAME *h, unsigned shares)
{
    for (int spins = 0; atomic_load_explicit(&h->finished, memory_order_acquire) < shares; spins++)
        if (spins < SPINS) relax();
        else sched_yield();
}

// Takes shares until there are none.
static void take_part(NAME *h)
{
    uint64_t offer = atomic_load_explicit(&h->offer, memory_order_acquire);
    while (has_shares(offer)) {
        if (!atomic_compare_exchange_weak_explicit(&h->offer, &offer, offer + 1, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        const unsigned share = taken_of(offer), before = share / NAME_THREADS;
        wait_until_finished(h, before * NAME_THREADS); // the steps before
        step(h, h->first + (int)before, (int)(share % NAME_THREADS));
        atomic_fetch_add_explicit(&h->finished, 1, memory_order_acq_rel);
        offer = atomic_load_explicit(&h->offer, memory_order_acquire);
    }
}

static void *work(void *argument)
{
    NAME *h = argument;
    for (;;) {
        int spins = 0;
        while (!has_shares(atomic_load_explicit(&h->offer, memory_order_acquire)) && spins < SPINS) {
            relax();
            spins++;
        }
        if (spins == SPINS) {
            pthread_mutex_lock(&h->mutex);
            atomic_fetch_add(&h->asleep, 1);
            while (!has_shares(atomic_load(&h->offer)) && !atomic_load(&h->stop)) pthread_cond_wait(&h->wake, &h->mutex);
            atomic_fetch_sub(&h->asleep, 1);
            pthread_mutex_unlock(&h->mutex);
        }
        if (atomic_load(&h->stop)) return 0;
        take_part(h);
    }
}

static void wake_workers(NAME *h)
{
    if (!atomic_load(&h->asleep)) return;
    pthread_mutex_lock(&h->mutex);
    pthread_cond_broadcast(&h->wake);
    pthread_mutex_unlock(&h->mutex);
}

// A thread that wakes up is often put on the core of the one that woke it, and waits there for milliseconds: workers may
// run anywhere but on the caller's core.
static void keep_away(NAME *h)
{
#ifdef __linux__
    const int here = sched_getcpu();
    if (here == h->caller_at || here < 0 || here >= CPU_SETSIZE) return;
    h->caller_at = here;
    cpu_set_t cores;
    if (pthread_getaffinity_np(pthread_self(), sizeof cores, &cores)) return;
    CPU_CLR(here, &cores);
    int left = 0;
    for (int core = 0; core < CPU_SETSIZE; core++) left += CPU_ISSET(core, &cores) != 0;
    for (int i = 0; i < h->started && left; i++) pthread_setaffinity_np(h->workers[i], sizeof cores, &cores);
#else
    (void)h;
#endif
}

static int start_workers(NAME *h);

static void run_job(NAME *h)
{
    if (h->threads == 1) {
        for (int number = h->first; number < h->end; number++)
            for (int core = 0; core < NAME_THREADS; core++) step(h, number, core);
        return;
    }
    if (h->process != getpid()) { // forked; maybe in the middle of another thread's job, which nobody goes on with
        atomic_store(&h->asleep, 0);
        atomic_store(&h->offer, offered(atomic_load(&h->offer) >> 40, 0, 0));
        start_workers(h);
    }
    const unsigned shares = (unsigned)(h->end - h->first) * NAME_THREADS;
    keep_away(h);
    atomic_store_explicit(&h->finished, 0, memory_order_relaxed);
    atomic_store(&h->offer, offered((atomic_load(&h->offer) >> 40) + 1, shares, 0));
    wake_workers(h);
    take_part(h);
    wait_until_finished(h, shares);
}

static void stop_workers(NAME *h)
{
    if (h->threads == 1 || h->process != getpid()) return;
    atomic_store(&h->stop, 1);
    wake_workers(h);
    for (int i = 0; i < h->started; i++) pthread_join(h->workers[i], 0);
    pthread_cond_destroy(&h->wake);
    pthread_mutex_destroy(&h->mutex);
}

// As many as the system gives, if it gives fewer: whoever is there takes all shares.
static int start_workers(NAME *h)
{
    if (h->threads == 1) return NAME_OK;
    pthread_attr_t attributes;
    if (pthread_mutex_init(&h->mutex, 0) || pthread_cond_init(&h->wake, 0) || pthread_attr_init(&attributes)) {
        h->threads = 1;
        return NAME_NO_THREADS;
    }
    pthread_attr_setstacksize(&attributes, 262144);
    h->caller_at = -1;
    h->process = getpid();
    h->started = 0;
    while (h->started + 1 < h->threads && !pthread_create(&h->workers[h->started], &attributes, work, h)) h->started++;
    pthread_attr_destroy(&attributes);
    return NAME_OK;
}

#endif

// ---- what users call -----------------------------------------------------------------------------------------------

static int runs_here(void)
{
#if defined(__x86_64__) && defined(__AVX2__)
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return 0;
#if defined(__AVX512F__)
    const unsigned wanted = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
    if ((b & wanted) != wanted) return 0;
    const unsigned kept = 0xe6; // registers that the system has to keep
#else
    const unsigned kept = 0x6;
#endif
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_FMA) || !(c & bit_OSXSAVE)) return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & kept) == kept;
#else
    return 1;
#endif
}

// All memory of a handle, which begins at `values`. On Linux in large pages, and from the system: malloc may give memory
// that was used before, and then has small pages.
static int get_memory(NAME *h)
{
    const size_t used = ((size_t)VALUE_FLOATS + WEIGHT_FLOATS) * sizeof(float) + NAME_THREADS * sizeof(workspace);
    const size_t bytes = used + WALK_FLOATS * sizeof(float);
#ifdef __linux__
    const size_t page = 1 << 21;
    const size_t large = (used + page / 2) / page * page; // what is left over takes small pages
    h->memory_bytes = (bytes > large ? bytes : large) + page;
    h->memory = mmap(0, h->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (h->memory == MAP_FAILED) return NAME_NO_MEMORY;
    h->values = (float *)(((uintptr_t)h->memory + page - 1) / page * page);
    madvise(h->values, large, MADV_HUGEPAGE);
#else
    h->memory_bytes = bytes;
    if (posix_memalign(&h->memory, 64, bytes)) return NAME_NO_MEMORY;
    h->values = h->memory;
#endif
    return NAME_OK;
}

static void free_memory(NAME *h)
{
#ifdef __linux__
    munmap(h->memory, h->memory_bytes);
#else
    free(h->memory);
#endif
}

int NAME_create(NAME **handle, int threads)
{
    if (!handle) return NAME_NULL_POINTER;
    *handle = 0;
    if (threads < 0) return NAME_BAD_SIZE;
    if (!runs_here()) return NAME_NO_PROCESSOR;
    NAME *h = calloc(1, sizeof(NAME));
    if (!h || get_memory(h)) {
        free(h);
        return NAME_NO_MEMORY;
    }
    h->scratch = (workspace *)(h->values + VALUE_FLOATS);
    h->weights = (float *)(h->scratch + NAME_THREADS);
    h->walk = h->weights + WEIGHT_FLOATS;
    h->threads = threads && threads < NAME_THREADS ? threads : NAME_THREADS;
    prepare_weights(h->weights, h->values);
    const int failed = start_workers(h);
    if (failed) NAME_destroy(h);
    else *handle = h;
    return failed;
}

void NAME_destroy(NAME *h)
{
    if (!h) return;
    stop_workers(h);
    free_memory(h);
    free(h);
}

// Steps [first, end) for n images, a batch at a time. Codes that are given or asked for are moved in between.
static int run_all(NAME *h, int first, int end, const void *in, ptrdiff_t in_stride, int in_floats, const float *codes_in,
                   void *out, ptrdiff_t out_stride, int out_floats, float *codes_out, int n)
{
    if (!h || (first == 0 ? !in : !codes_in) || (end == STEPS ? !out : !codes_out)) return NAME_NULL_POINTER;
    const ptrdiff_t in_row = row_bytes(NAME_CHANNELS_IN, in_floats), out_row = row_bytes(NAME_CHANNELS_OUT, out_floats);
    if (in_stride == 0) in_stride = in_row;
    if (out_stride == 0) out_stride = out_row;
    if (n < 0 || (in_stride < in_row && -in_stride < in_row) || (out_stride < out_row && -out_stride < out_row))
        return NAME_BAD_SIZE;
    if (in_floats && ((uintptr_t)in % 4 || in_stride % 4)) return NAME_BAD_SIZE;
    if (out_floats && ((uintptr_t)out % 4 || out_stride % 4)) return NAME_BAD_SIZE;
    h->first = first, h->end = end;
    h->in_stride = in_stride, h->out_stride = out_stride, h->in_floats = in_floats, h->out_floats = out_floats;
    for (int i = 0; i < n; i += NAME_BATCH) {
        h->count = n - i < NAME_BATCH ? n - i : NAME_BATCH;
        h->in = first == 0 ? (const char *)in + i * NAME_HEIGHT * in_stride : 0;
        h->out = end == STEPS ? (char *)out + i * NAME_HEIGHT * out_stride : 0;
        if (codes_in) {
            memcpy(h->values + AT_CODE, codes_in + (size_t)i * NAME_CODE, (size_t)h->count * NAME_CODE * 4);
            forget_skips(h);
        }
        run_job(h);
        if (codes_out) memcpy(codes_out + (size_t)i * NAME_CODE, h->values + AT_CODE, (size_t)h->count * NAME_CODE * 4);
    }
    return NAME_OK;
}

int NAME_run(NAME *h, const uint8_t *in, ptrdiff_t in_stride, uint8_t *out, ptrdiff_t out_stride, int n)
{
    return run_all(h, 0, STEPS, in, in_stride, 0, 0, out, out_stride, 0, 0, n);
}

int NAME_run_float(NAME *h, const float *in, ptrdiff_t in_stride, float *out, ptrdiff_t out_stride, int n)
{
    return run_all(h, 0, STEPS, in, in_stride, 1, 0, out, out_stride, 1, 0, n);
}

int NAME_encode(NAME *h, const uint8_t *in, ptrdiff_t in_stride, float *codes, int n)
{
    return run_all(h, 0, FEATURES_END, in, in_stride, 0, 0, 0, 0, 0, codes, n);
}

int NAME_encode_float(NAME *h, const float *in, ptrdiff_t in_stride, float *codes, int n)
{
    return run_all(h, 0, FEATURES_END, in, in_stride, 1, 0, 0, 0, 0, codes, n);
}

int NAME_decode(NAME *h, const float *codes, uint8_t *out, ptrdiff_t out_stride, int n)
{
    return run_all(h, FEATURES_END, STEPS, 0, 0, 0, codes, out, out_stride, 0, 0, n);
}

int NAME_decode_float(NAME *h, const float *codes, float *out, ptrdiff_t out_stride, int n)
{
    return run_all(h, FEATURES_END, STEPS, 0, 0, 0, codes, out, out_stride, 1, 0, n);
}

int NAME_interpolate(NAME *h, const uint8_t *from, const uint8_t *to, ptrdiff_t in_stride, uint8_t *frames,
                     ptrdiff_t out_stride, int steps)
{
    if (!h || !from || !to || !frames) return NAME_NULL_POINTER;
    const ptrdiff_t out_row = row_bytes(NAME_CHANNELS_OUT, 0), in_row = row_bytes(NAME_CHANNELS_IN, 0);
    if (in_stride == 0) in_stride = in_row;
    if (out_stride == 0) out_stride = out_row;
    if (steps < 2 || (out_stride < out_row && -out_stride < out_row) || (in_stride < in_row && -in_stride < in_row))
        return NAME_BAD_SIZE;
    h->in_stride = in_stride, h->in_floats = 0, h->count = 1;
    for (int end = 0; end < 2; end++) {
        h->first = 0, h->end = FEATURES_END, h->in = (const char *)(end ? to : from);
        run_job(h);
        keep_features(h, h->walk + end * (WALK_FLOATS / 2));
    }
    h->first = FEATURES_END, h->end = STEPS;
    h->out_stride = out_stride, h->out_floats = 0;
    for (int i = 0; i < steps; i += NAME_BATCH) {
        h->count = steps - i < NAME_BATCH ? steps - i : NAME_BATCH;
        for (int frame = 0; frame < NAME_BATCH; frame++)
            mix_features(h, frame, (float)(i + frame < steps ? i + frame : steps - 1) / (float)(steps - 1));
        h->out = (char *)frames + (ptrdiff_t)i * NAME_HEIGHT * out_stride;
        run_job(h);
    }
    return NAME_OK;
}

// The picture that golden.py of edgeae describes: squares of 8 x 8 pixels, each channel of a value of its own.
int NAME_selftest(float *largest)
{
    NAME *h;
    int result = NAME_create(&h, 0);
    if (result) return result;
    const size_t pixels = (size_t)NAME_WIDTH * NAME_HEIGHT, size = pixels * NAME_CHANNELS_OUT;
    float *in = malloc(pixels * NAME_CHANNELS_IN * 4), *out = malloc(size * 4), most = 0.0f;
    if (in && out) {
        for (size_t i = 0; i < pixels * NAME_CHANNELS_IN; i++) {
            const size_t c = i % NAME_CHANNELS_IN, x = i / NAME_CHANNELS_IN % NAME_WIDTH, y = i / NAME_CHANNELS_IN / NAME_WIDTH;
            const uint32_t square = (uint32_t)((y / 8 * ((NAME_WIDTH + 7) / 8) + x / 8) * NAME_CHANNELS_IN + c);
            in[i] = (float)((uint32_t)(square * 2654435761u) >> 24) / 255.0f;
        }
        result = NAME_run_float(h, in, 0, out, 0, 1);
        for (int i = 0; i < GOLDEN_SAMPLES && !result; i++) {
            const float difference = out[golden_places[i]] - (float)golden[i] / 65535.0f;
            const float error = difference < 0 ? -difference : difference;
            if (!(error <= most)) most = error; // NaN too
        }
        if (!result && !(most <= GOLDEN_TOLERANCE)) result = NAME_WRONG_OUTPUT;
    } else result = NAME_NO_MEMORY;
    if (largest) *largest = most;
    free(in), free(out);
    NAME_destroy(h);
    return result;
}

const char *NAME_error(int code)
{
    static const char *const words[] = {
        "done", "a null pointer", "a count or stride that does not fit", "out of memory",
        "compiled for another processor: @PROCESSOR@", "the system gives no thread", "the output is wrong",
    };
    return code >= 0 && code < (int)(sizeof words / sizeof *words) ? words[code] : "unknown";
}

const char *NAME_metadata(void) { return metadata + sizeof("edgeae library NAME 1"); }
