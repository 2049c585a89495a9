// A CUDA driver and its libraries that compute nothing: programs built for a GPU run on a machine without one, and
// their launches are counted. Memory has addresses and sizes but no content; copies to the host are zeros.
//
// gpu/rehearse_cuda.sh compiles it together with an empty function for every other symbol that the program needs.
// CSV of the launches, written at exit to $STAND_IN_OUT: kind,name,count

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INVALID_VALUE = 1, CUBLAS_INVALID_VALUE = 7, OUT_OF_MEMORY = 2, TABLE = 1 << 16 };
static const uint64_t MEMORY = 80ull << 30;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// ---- counts ------------------------------------------------------------------------------------

struct count {
    const char *kind, *name;
    uint64_t count;
};
static struct count counts[4096];
static size_t count_len;

static void add(const char *kind, const char *name) {
    pthread_mutex_lock(&lock);
    size_t index = 0;
    while (index < count_len && (strcmp(counts[index].kind, kind) || strcmp(counts[index].name, name)))
        index++;
    if (index == count_len && index < sizeof counts / sizeof *counts)
        counts[count_len++] = (struct count){kind, strdup(name), 0};
    if (index < count_len)
        counts[index].count++;
    pthread_mutex_unlock(&lock);
}

__attribute__((destructor)) static void write_counts(void) {
    const char *path = getenv("STAND_IN_OUT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file)
        return;
    fputs("kind,name,count\n", file);
    for (size_t index = 0; index < count_len; index++)
        fprintf(file, "%s,%s,%llu\n", counts[index].kind, counts[index].name,
                (unsigned long long)counts[index].count);
    fclose(file);
}

// ---- memory ------------------------------------------------------------------------------------

static struct {
    uint64_t address, size;
} blocks[TABLE];
static uint64_t next_address = 1ull << 40, used, used_high;

static int allocate(uint64_t *address, size_t size) {
    int result = 0;
    pthread_mutex_lock(&lock);
    if (used + size > MEMORY) {
        result = OUT_OF_MEMORY;
    } else {
        *address = next_address;
        next_address += (size + 1023) / 512 * 512;
        size_t slot = *address / 512 % TABLE;
        for (size_t tried = 0; blocks[slot].address && tried < TABLE; tried++)
            slot = (slot + 1) % TABLE;
        blocks[slot].address = *address;
        blocks[slot].size = size;
        used += size;
        if (used > used_high)
            used_high = used;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static int release(uint64_t address) {
    pthread_mutex_lock(&lock);
    for (size_t tried = 0, slot = address / 512 % TABLE; tried < TABLE; tried++, slot = (slot + 1) % TABLE) {
        if (blocks[slot].address == address) {
            used -= blocks[slot].size;
            blocks[slot].address = 0;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

int cuMemAllocAsync(uint64_t *address, size_t size, void *stream) { return (void)stream, allocate(address, size); }
int cuMemAlloc_v2(uint64_t *address, size_t size) { return allocate(address, size); }
int cuMemFreeAsync(uint64_t address, void *stream) { return (void)stream, release(address); }
int cuMemFree_v2(uint64_t address) { return release(address); }
int cuMemFreeAsync_ptsz(uint64_t address, void *stream) { return (void)stream, release(address); }
int cuMemAllocAsync_ptsz(uint64_t *address, size_t size, void *stream) { return (void)stream, allocate(address, size); }

int cuMemPoolGetAttribute(void *pool, int attribute, uint64_t *value) {
    (void)pool;
    *value = attribute == 7 ? used : attribute == 8 ? used_high : 0;
    return 0;
}

int cuMemPoolSetAttribute(void *pool, int attribute, uint64_t *value) {
    (void)pool, (void)value;
    if (attribute == 8)
        used_high = used;
    return 0;
}

static int to_host(void *to, size_t size) {
    memset(to, 0, size);
    add("copy", "to host");
    return 0;
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
    return (void)from, (void)stream, to_host(to, size);
}
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) { return (void)from, to_host(to, size); }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
    (void)to, (void)from, (void)stream, (void)size;
    add("copy", size > 4096 ? "to device" : "table to device");
    return 0;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *stream) {
    (void)to, (void)from, (void)stream, (void)size;
    add("copy", size > 4096 ? "on device" : "table on device");
    return 0;
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t size, void *stream) {
    (void)to, (void)value, (void)size, (void)stream;
    add("fill", "memset");
    return 0;
}

// ---- devices, modules, launches ----------------------------------------------------------------

int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { return (void)device, *bytes = MEMORY, 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    // Compute capability 9.0; everything else is supported.
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1;
    return 0;
}
int cuDeviceGetName(char *name, int length, int device) {
    return (void)device, snprintf(name, (size_t)length, "stand-in"), 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { return (void)device, *context = (void *)16, 0; }
int cuCtxGetCurrent(void **context) { return *context = (void *)16, 0; }
int cuCtxGetDevice(int *device) { return *device = 0, 0; }
int cuDeviceGetDefaultMemPool(void **pool, int device) { return (void)device, *pool = (void *)32, 0; }
int cuStreamCreate(void **stream, unsigned flags) { return (void)flags, *stream = (void *)48, 0; }
int cuEventCreate(void **event, unsigned flags) { return (void)flags, *event = (void *)64, 0; }
int cuStreamIsCapturing(void *stream, int *status) { return (void)stream, *status = 0, 0; }
int cuModuleLoadData(void **module, const void *image) { return (void)image, *module = (void *)80, 0; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    return (void)module, *function = strdup(name), 0;
}

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    (void)shared, (void)stream, (void)parameters, (void)extra;
    uint64_t threads = (uint64_t)bx * by * bz;
    if (!gx || !gy || !gz || !threads || threads > 1024 || gx > INT32_MAX || gy > 65535 || gz > 65535) {
        fprintf(stderr, "stand-in: %s with grid %u,%u,%u and block %u,%u,%u\n", (char *)function, gx, gy, gz, bx, by,
                bz);
        return INVALID_VALUE;
    }
    add("kernel", function);
    return 0;
}

int cuGetErrorName(int error, const char **text) {
    *text = error == INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE"
            : error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN";
    return 0;
}
int cuGetErrorString(int error, const char **text) { return (void)error, *text = "of the stand-in", 0; }

// ---- cuBLAS, cuRAND ----------------------------------------------------------------------------

int cublasCreate_v2(void **handle) { return *handle = (void *)96, 0; }
int curandCreateGenerator(void **generator, int kind) { return (void)kind, *generator = (void *)112, 0; }

// Checks the leading dimensions as cuBLAS does.
static int product(int ta, int tb, int m, int n, int k, int lda, int ldb, int ldc, const char *name) {
    if (m < 0 || n < 0 || k < 0 || lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) {
        fprintf(stderr, "stand-in: %s of %d,%d,%d with leading dimensions %d,%d,%d\n", name, m, n, k, lda, ldb, ldc);
        return CUBLAS_INVALID_VALUE;
    }
    add("product", name);
    return 0;
}

int cublasGemmStridedBatchedEx(void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a,
                               int a_type, int lda, long long stride_a, const void *b, int b_type, int ldb,
                               long long stride_b, const void *beta, void *c, int c_type, int ldc, long long stride_c,
                               int batch, int compute, int algorithm) {
    (void)handle, (void)alpha, (void)a, (void)a_type, (void)stride_a, (void)b, (void)b_type, (void)stride_b;
    (void)beta, (void)c, (void)c_type, (void)stride_c, (void)batch, (void)compute, (void)algorithm;
    return product(ta, tb, m, n, k, lda, ldb, ldc, "cublasGemmStridedBatchedEx");
}
int cublasGemmEx(void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int a_type,
                 int lda, const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc,
                 int compute, int algorithm) {
    (void)handle, (void)alpha, (void)a, (void)a_type, (void)b, (void)b_type, (void)beta, (void)c, (void)c_type;
    (void)compute, (void)algorithm;
    return product(ta, tb, m, n, k, lda, ldb, ldc, "cublasGemmEx");
}
