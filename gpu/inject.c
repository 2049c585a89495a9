/* CUPTI activity injection library: GPU time of a process by kernel, copy and memset, as CSV.
 *
 * Build, where CUPTI is the folder nvidia/cu13 of the PyPI wheel nvidia-cuda-cupti 13.0 (it has
 * include and lib) and CUDA is the folder of the CUDA 13 toolkit (it has include/cuda.h):
 *
 *   gcc -shared -fPIC -O2 -Wall -Wextra -isystem "$CUPTI/include" -isystem "$CUDA/include" \
 *       gpu/inject.c -o libkernels.so -L"$CUPTI/lib" -l:libcupti.so.13
 *
 * Use, with the folder of libcupti.so.13 in LD_LIBRARY_PATH:
 *
 *   CUDA_INJECTION64_PATH=libkernels.so KERNELS_OUT=kernels.csv program
 *
 * The driver calls InitializeInjection in cuInit. Rows are keyed by name, grid and block; names
 * stay mangled. The file is written at exit, and every few seconds before it, so that a process
 * that is killed at its time limit leaves a table too. An error costs records, never the program.
 */
#define _GNU_SOURCE
#include <cupti.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The record layouts of this header. The fields read here have the same place in the records of
 * CUPTI 12, so a library of either version can be loaded. */
typedef CUpti_ActivityKernel10 Kernel;
typedef CUpti_ActivityMemcpy6 Copy;
typedef CUpti_ActivityMemset4 Set;
_Static_assert(offsetof(Kernel, name) == offsetof(CUpti_ActivityKernel9, name), "kernel record");
_Static_assert(offsetof(Kernel, start) == offsetof(CUpti_ActivityKernel9, start), "kernel record");
_Static_assert(offsetof(Kernel, gridX) == offsetof(CUpti_ActivityKernel9, gridX), "kernel record");
_Static_assert(offsetof(Copy, end) == offsetof(CUpti_ActivityMemcpy5, end), "copy record");

enum { BUCKETS = 4096, BUFFER_BYTES = 1 << 20, WRITE_EVERY_S = 5, THREADS_PER_BLOCK_MAX = 1024 };

typedef struct Row {
    struct Row *next;
    const char *kind;
    char *name;
    int32_t grid[3], block[3];
    uint64_t count, sum_ns, min_ns, max_ns, bytes;
} Row;

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static Row *table[BUCKETS];
static uint64_t dropped, untimed, unreadable, unknown_kind, out_of_memory;
static char out_path[PATH_MAX], part_path[PATH_MAX + 8];
static time_t written_s;
static pid_t owner;

static void report(const char *call, CUptiResult result) {
    const char *text = NULL;
    cuptiGetResultString(result, &text);
    fprintf(stderr, "libkernels: %s: %s (%d)\n", call, text ? text : "unknown error", (int)result);
}

static time_t now_s(void) {
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* FNV-1a. */
static uint32_t hash_bytes(uint32_t hash, const void *bytes, size_t length) {
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < length; i++) hash = (hash ^ byte[i]) * 16777619u;
    return hash;
}

/* Returns the row of a key, created if it is new, or NULL if memory is exhausted. */
static Row *find_row(const char *kind, const char *name, const int32_t grid[3],
                     const int32_t block[3]) {
    uint32_t hash = hash_bytes(2166136261u, name, strlen(name));
    hash = hash_bytes(hash, grid, 3 * sizeof *grid);
    hash = hash_bytes(hash, block, 3 * sizeof *block);
    Row **bucket = &table[hash % BUCKETS];
    for (Row *row = *bucket; row; row = row->next) {
        if (row->kind == kind && !memcmp(row->grid, grid, sizeof row->grid) &&
            !memcmp(row->block, block, sizeof row->block) && !strcmp(row->name, name))
            return row;
    }
    Row *row = calloc(1, sizeof *row);
    /* A copy, because CUPTI may free its text with the module. */
    char *copy = row ? strdup(name) : NULL;
    if (!copy) {
        free(row);
        return NULL;
    }
    row->kind = kind;
    row->name = copy;
    memcpy(row->grid, grid, sizeof row->grid);
    memcpy(row->block, block, sizeof row->block);
    row->min_ns = UINT64_MAX;
    row->next = *bucket;
    *bucket = row;
    return row;
}

static void add(const char *kind, const char *name, const int32_t grid[3], const int32_t block[3],
                uint64_t start, uint64_t end, uint64_t bytes) {
    /* CUPTI gives 0 for both times when it had no memory to measure them. */
    if (!start || !end) {
        untimed++;
        return;
    }
    Row *row = find_row(kind, name, grid, block);
    if (!row) {
        out_of_memory++;
        return;
    }
    uint64_t ns = end - start;
    row->count++;
    row->sum_ns += ns;
    row->bytes += bytes;
    if (ns < row->min_ns) row->min_ns = ns;
    if (ns > row->max_ns) row->max_ns = ns;
}

/* A record of another layout rarely passes this check, and `name` is read only after it. */
static int is_plausible(const Kernel *kernel) {
    return kernel->name && kernel->end >= kernel->start && kernel->gridX > 0 && kernel->gridY > 0 &&
           kernel->gridZ > 0 && kernel->blockX > 0 && kernel->blockY > 0 && kernel->blockZ > 0 &&
           (int64_t)kernel->blockX * kernel->blockY * kernel->blockZ <= THREADS_PER_BLOCK_MAX;
}

static const char *copy_name(unsigned kind) {
    static const char *const names[] = {"?",    "HtoD", "DtoH", "HtoA", "AtoH", "AtoA",
                                        "AtoD", "DtoA", "DtoD", "HtoH", "PtoP"};
    return kind < sizeof names / sizeof *names ? names[kind] : NULL;
}

static const char *memory_name(unsigned kind) {
    static const char *const names[] = {"unknown", "pageable", "pinned",        "device",
                                        "array",   "managed",  "device static", "managed static"};
    return kind < sizeof names / sizeof *names ? names[kind] : "unknown";
}

static void add_record(const CUpti_Activity *record) {
    static const int32_t none[3] = {0, 0, 0};
    switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_KERNEL:
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
        const Kernel *kernel = (const Kernel *)record;
        if (!is_plausible(kernel)) {
            unreadable++;
            return;
        }
        int32_t grid[3] = {kernel->gridX, kernel->gridY, kernel->gridZ};
        int32_t block[3] = {kernel->blockX, kernel->blockY, kernel->blockZ};
        add("kernel", kernel->name, grid, block, kernel->start, kernel->end, 0);
        return;
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
        const Copy *copy = (const Copy *)record;
        const char *direction = copy_name(copy->copyKind);
        if (!direction || copy->end < copy->start) {
            unreadable++;
            return;
        }
        int is_async = copy->flags & CUPTI_ACTIVITY_FLAG_MEMCPY_ASYNC;
        char name[96];
        snprintf(name, sizeof name, "%s %s to %s%s", direction, memory_name(copy->srcKind),
                 memory_name(copy->dstKind), is_async ? " async" : "");
        add("memcpy", name, none, none, copy->start, copy->end, copy->bytes);
        return;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
        const Set *set = (const Set *)record;
        if (set->end < set->start) {
            unreadable++;
            return;
        }
        add("memset", memory_name(set->memoryKind), none, none, set->start, set->end, set->bytes);
        return;
    }
    default:
        unknown_kind++;
    }
}

/* Prints a field in quotes, so that a comma in a name does not split it. */
static void print_quoted(FILE *file, const char *text) {
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"') fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

static void print_shape(FILE *file, const int32_t shape[3]) {
    if (shape[0]) fprintf(file, "%" PRId32 "x%" PRId32 "x%" PRId32, shape[0], shape[1], shape[2]);
}

/* Writes the table to a second file and renames it, so that the table is never half written. The
 * caller holds `table_lock`. */
static void write_table(void) {
    written_s = now_s();
    FILE *file = fopen(part_path, "w");
    if (!file) {
        perror("libkernels: KERNELS_OUT");
        return;
    }
    fputs("kind,name,grid,block,count,sum_ns,min_ns,max_ns,bytes\n", file);
    for (size_t bucket = 0; bucket < BUCKETS; bucket++) {
        for (const Row *row = table[bucket]; row; row = row->next) {
            fprintf(file, "%s,", row->kind);
            print_quoted(file, row->name);
            fputc(',', file);
            print_shape(file, row->grid);
            fputc(',', file);
            print_shape(file, row->block);
            fprintf(file, ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n",
                    row->count, row->sum_ns, row->min_ns, row->max_ns, row->bytes);
        }
    }
    int failed = ferror(file);
    if (fclose(file) || failed || rename(part_path, out_path)) perror("libkernels: KERNELS_OUT");
}

static void CUPTIAPI buffer_requested(uint8_t **buffer, size_t *size, size_t *records_max) {
    /* A NULL buffer is allowed: CUPTI then drops records. */
    *buffer = malloc(BUFFER_BYTES);
    *size = *buffer ? BUFFER_BYTES : 0;
    *records_max = 0;
}

static void CUPTIAPI buffer_completed(CUcontext context, uint32_t stream, uint8_t *buffer,
                                      size_t size, size_t valid_bytes) {
    (void)context, (void)stream, (void)size;
    pthread_mutex_lock(&table_lock);
    CUpti_Activity *record = NULL;
    CUptiResult result = CUPTI_ERROR_MAX_LIMIT_REACHED;
    while (buffer && valid_bytes) {
        result = cuptiActivityGetNextRecord(buffer, valid_bytes, &record);
        if (result != CUPTI_SUCCESS) break;
        add_record(record);
    }
    /* INVALID_KIND ends a buffer whose last record was still incomplete when it was flushed. */
    static int is_reported;
    if (result != CUPTI_ERROR_MAX_LIMIT_REACHED && result != CUPTI_ERROR_INVALID_KIND &&
        !is_reported) {
        is_reported = 1;
        report("cuptiActivityGetNextRecord", result);
    }
    size_t lost = 0;
    if (cuptiActivityGetNumDroppedRecords(NULL, 0, &lost) == CUPTI_SUCCESS) dropped += lost;
    if (now_s() - written_s >= WRITE_EVERY_S && getpid() == owner) write_table();
    pthread_mutex_unlock(&table_lock);
    free(buffer);
}

static void at_exit(void) {
    /* A forked child has the handler too, but no activity of its own. */
    if (getpid() != owner) return;
    CUptiResult result = cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    if (result != CUPTI_SUCCESS) report("cuptiActivityFlushAll", result);
    pthread_mutex_lock(&table_lock);
    write_table();
    if (dropped | untimed | unreadable | unknown_kind | out_of_memory) {
        fprintf(stderr,
                "libkernels: records lost: %" PRIu64 " dropped, %" PRIu64 " without times, %" PRIu64
                " unreadable, %" PRIu64 " of other kinds, %" PRIu64 " without memory\n",
                dropped, untimed, unreadable, unknown_kind, out_of_memory);
    }
    pthread_mutex_unlock(&table_lock);
}

/* Called by the driver in cuInit. Always returns success: the program runs without a table too. */
__attribute__((visibility("default"))) int InitializeInjection(void) {
    static int is_started;
    pthread_mutex_lock(&table_lock);
    int is_first = !is_started;
    is_started = 1;
    pthread_mutex_unlock(&table_lock);
    if (!is_first) return 1;

    const char *path = getenv("KERNELS_OUT");
    if (!path || !*path || strlen(path) >= sizeof out_path) {
        fprintf(stderr, "libkernels: KERNELS_OUT is unset or too long, nothing is recorded\n");
        return 1;
    }
    strcpy(out_path, path);
    snprintf(part_path, sizeof part_path, "%s.part", path);
    owner = getpid();
    written_s = now_s();

    uint32_t version = 0;
    CUptiResult result = cuptiGetVersion(&version);
    if (result != CUPTI_SUCCESS) {
        report("cuptiGetVersion", result);
    } else if (version / 10000 != CUPTI_API_VERSION / 10000) {
        fprintf(stderr, "libkernels: built for CUPTI %d, loaded %" PRIu32 ": records may differ\n",
                CUPTI_API_VERSION, version);
    }
    result = cuptiActivityRegisterCallbacks(buffer_requested, buffer_completed);
    if (result != CUPTI_SUCCESS) {
        report("cuptiActivityRegisterCallbacks", result);
        return 1;
    }
    static const struct {
        CUpti_ActivityKind kind;
        const char *call;
    } kinds[] = {{CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, "cuptiActivityEnable(CONCURRENT_KERNEL)"},
                 {CUPTI_ACTIVITY_KIND_MEMCPY, "cuptiActivityEnable(MEMCPY)"},
                 {CUPTI_ACTIVITY_KIND_MEMSET, "cuptiActivityEnable(MEMSET)"}};
    int enabled = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        result = cuptiActivityEnable(kinds[i].kind);
        if (result == CUPTI_SUCCESS) {
            enabled++;
            continue;
        }
        report(kinds[i].call, result);
        /* Without kernels, for example without a driver, the other kinds fail in the same way. */
        if (i == 0) break;
    }
    if (enabled && atexit(at_exit)) fprintf(stderr, "libkernels: atexit failed\n");
    return 1;
}
