/* A libcuda.so.1 for machines without a GPU: as much of the driver API as a look at a context needs. Every call reads the file named
 * by FAKE_GPUS_STATE:
 *
 *   cuda_initialized  0: cuInit was never called (1)        cuda_active.N   whether GPU N has a primary context (1 for GPU 0)
 *   cuda_sticky       error that a broken context gives (0)  cuda_oom        1: nothing can be allocated
 *   count             GPUs (1)                              cuda_fail.FUNCTION  error that one function returns
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int result;

enum { SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, NOT_INITIALIZED, INVALID_CONTEXT = 201 };
enum { GPUS = 64, DEPTH = 16 };

static int retained[GPUS], created, allocated, depth;
static long stack[DEPTH];

static int number(const char *key, int otherwise)
{
    const char *path = getenv("FAKE_GPUS_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[1024];
    size_t length = strlen(key);
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, key, length) && line[length] == '=')
            otherwise = atoi(line + length + 1);
    if (file)
        fclose(file);
    return otherwise;
}

static int active(int device)
{
    char key[64];
    snprintf(key, sizeof key, "cuda_active.%d", device);
    return number(key, device == 0);
}

static result usable(void) { return depth ? number("cuda_sticky", SUCCESS) : INVALID_CONTEXT; }

/* Not CUDA's: what is still held, and how many contexts were made. All of it must be 0 after a look. */
int fakeCudaLeft(void)
{
    int left = created + allocated + depth;
    for (int device = 0; device < GPUS; device++)
        left += retained[device];
    return left;
}

static int failing(const char *function)
{
    char key[128];
    snprintf(key, sizeof key, "cuda_fail.%s", function);
    return number(key, SUCCESS);
}

#define BEGIN                                                                                                                                                  \
    do {                                                                                                                                                       \
        int injected = failing(__func__);                                                                                                                      \
        if (injected)                                                                                                                                          \
            return injected;                                                                                                                                   \
    } while (0)

result cuDeviceGetCount(int *out)
{
    BEGIN;
    *out = number("count", 1);
    return number("cuda_initialized", 1) ? SUCCESS : NOT_INITIALIZED;
}

result cuDeviceGet(int *out, int ordinal)
{
    *out = ordinal;
    return ordinal < number("count", 1) ? SUCCESS : INVALID_VALUE;
}

result cuDevicePrimaryCtxGetState(int device, unsigned int *flags, int *out)
{
    BEGIN;
    *flags = 0;
    *out = active(device);
    return SUCCESS;
}

result cuDevicePrimaryCtxRetain(void **context, int device)
{
    BEGIN;
    created += !active(device);
    retained[device]++;
    *context = (void *)(long)(device + 1);
    return SUCCESS;
}

result cuDevicePrimaryCtxRelease_v2(int device)
{
    retained[device]--;
    return SUCCESS;
}

result cuCtxPushCurrent_v2(void *context)
{
    BEGIN;
    if (depth == DEPTH)
        return INVALID_VALUE;
    stack[depth++] = (long)context;
    return SUCCESS;
}

result cuCtxPopCurrent_v2(void **context)
{
    if (!depth)
        return INVALID_CONTEXT;
    *context = (void *)stack[--depth];
    return SUCCESS;
}

result cuMemAlloc_v2(unsigned long long *pointer, size_t size)
{
    result broken = usable();
    (void)size;
    if (broken)
        return broken;
    if (number("cuda_oom", 0))
        return OUT_OF_MEMORY;
    allocated++;
    *pointer = 0x1000;
    return SUCCESS;
}

result cuCtxSynchronize(void)
{
    BEGIN;
    return usable();
}

result cuMemFree_v2(unsigned long long pointer)
{
    (void)pointer;
    allocated--;
    BEGIN;
    return usable();
}

result cuGetErrorName(result code, const char **name)
{
    *name = code == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : NULL;
    return *name ? SUCCESS : INVALID_VALUE;
}
