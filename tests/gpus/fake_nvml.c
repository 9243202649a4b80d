/* A libnvidia-ml.so.1 for machines without a GPU. It holds no state of its own but the init count: every call reads the file
 * named by FAKE_GPUS_STATE, so a test changes the GPUs of a running process by replacing that file. A line is `key=value`;
 * `key.2=value` is meant for GPU 2, `key.2:0=value` for its MIG instance 0; the most exact one holds.
 *
 *   count                GPUs (1)                      mig.N                MIG instances of GPU N; 0: MIG mode, none made (MIG off)
 *   name, driver         strings                       uuid                 string (made from the numbers of GPU and instance)
 *   memory_total_mib     (81559)                       memory_used_mib      (0), without what the driver reserves
 *   memory_reserved_mib  (500), only v2 tells apart    utilization          percent (0)
 *   temperature_c (40)   power_mw (70000)              energy_mj            (grows with the clock at power_mw)
 *   processes            pid:mib[,pid:mib]             fail.FUNCTION        NVML error that the function returns
 *   tenants              pid:mib:ms[,...]: processes whose memory counts as used while they live and for so many ms after this library first
 *                        found them gone, for ever if negative; listed as processes for as long, unless `hidden` is 1
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int status;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct device { int gpu, instance; } device; /* instance -1: the whole GPU */

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, VERSION_MISMATCH = 25 };
enum { GPUS = 64, INSTANCES = 8 };

static int users;
static device devices[GPUS][INSTANCES + 1];

static int text(const char *key, char *value, size_t size)
{
    const char *path = getenv("FAKE_GPUS_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[1024];
    size_t length = strlen(key);
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file))
        if (!strncmp(line, key, length) && line[length] == '=') {
            line[strcspn(line, "\n")] = 0;
            snprintf(value, size, "%s", line + length + 1);
            found = 1;
        }
    if (file)
        fclose(file);
    return found;
}

static int text_of(const device *d, const char *key, char *value, size_t size)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%d:%d", key, d->gpu, d->instance);
    if (d->instance >= 0 && text(full, value, size))
        return 1;
    snprintf(full, sizeof full, "%s.%d", key, d->gpu);
    return text(full, value, size) || text(key, value, size);
}

static u64 number_of(const device *d, const char *key, u64 otherwise)
{
    char value[64];
    return text_of(d, key, value, sizeof value) ? strtoull(value, NULL, 10) : otherwise;
}

static int failing(const char *function)
{
    char key[128], value[32];
    snprintf(key, sizeof key, "fail.%s", function);
    return text(key, value, sizeof value) ? atoi(value) : 0;
}

static int count(void)
{
    char value[32];
    int n = text("count", value, sizeof value) ? atoi(value) : 1;
    return n > GPUS ? GPUS : n;
}

/* -1: MIG is off */
static int instances(int gpu)
{
    char key[32], value[32];
    snprintf(key, sizeof key, "mig.%d", gpu);
    return text(key, value, sizeof value) ? atoi(value) : -1;
}

static device *at(int gpu, int instance)
{
    device *d = &devices[gpu][instance + 1];
    d->gpu = gpu;
    d->instance = instance;
    return d;
}

static status answer(char *out, u32 size, const char *value)
{
    if (strlen(value) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}

static void uuid_of(const device *d, char *out, size_t size)
{
    if (d->instance < 0 && text_of(d, "uuid", out, size))
        return;
    if (d->instance < 0)
        snprintf(out, size, "GPU-%08x-0000-4000-8000-000000000000", d->gpu);
    else
        snprintf(out, size, "MIG-%08x-0000-4000-8000-00000000%04x", d->gpu, d->instance + 1);
}

#define BEGIN                                                                                                                                                  \
    do {                                                                                                                                                       \
        int injected = failing(__func__);                                                                                                                      \
        if (injected)                                                                                                                                          \
            return injected;                                                                                                                                   \
        if (!users)                                                                                                                                            \
            return UNINITIALIZED;                                                                                                                              \
    } while (0)

#define DEVICE                                                                                                                                                 \
    BEGIN;                                                                                                                                                     \
    if (!d || d->gpu >= count())                                                                                                                               \
    return INVALID_ARGUMENT

status nvmlInitWithFlags(u32 flags)
{
    (void)flags;
    int injected = failing("nvmlInitWithFlags");
    if (injected)
        return injected;
    users++;
    return SUCCESS;
}

status nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

status nvmlShutdown(void)
{
    BEGIN;
    users--;
    return SUCCESS;
}

/* Not NVML's: how many have it open. */
int fakeNvmlUsers(void) { return users; }

const char *nvmlErrorString(status code)
{
    switch (code) {
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    case 18: return "Driver/library version mismatch";
    case 999: return "Unknown Error";
    default: return "Some Error";
    }
}

status nvmlSystemGetDriverVersion(char *out, u32 size)
{
    char value[80] = "580.82.07";
    BEGIN;
    text("driver", value, sizeof value);
    return answer(out, size, value);
}

status nvmlSystemGetNVMLVersion(char *out, u32 size)
{
    BEGIN;
    return answer(out, size, "13.580.82.07");
}

status nvmlSystemGetCudaDriverVersion(int *out)
{
    BEGIN;
    *out = 13000;
    return SUCCESS;
}

status nvmlSystemGetCudaDriverVersion_v2(int *out) { return nvmlSystemGetCudaDriverVersion(out); }

status nvmlDeviceGetCount_v2(u32 *out)
{
    BEGIN;
    *out = (u32)count();
    return SUCCESS;
}

status nvmlDeviceGetHandleByIndex_v2(u32 index, device **out)
{
    BEGIN;
    if ((int)index >= count())
        return INVALID_ARGUMENT;
    *out = at((int)index, -1);
    return SUCCESS;
}

status nvmlDeviceGetHandleByUUID(const char *uuid, device **out)
{
    char own[96];
    BEGIN;
    for (int gpu = 0; gpu < count(); gpu++)
        for (int instance = -1; instance < instances(gpu) || instance == -1; instance++) {
            uuid_of(at(gpu, instance), own, sizeof own);
            if (!strcmp(own, uuid)) {
                *out = at(gpu, instance);
                return SUCCESS;
            }
        }
    return NOT_FOUND;
}

status nvmlDeviceGetUUID(device *d, char *out, u32 size)
{
    char value[96];
    DEVICE;
    uuid_of(d, value, sizeof value);
    return answer(out, size, value);
}

status nvmlDeviceGetName(device *d, char *out, u32 size)
{
    char value[64] = "NVIDIA H100 80GB HBM3", full[96];
    DEVICE;
    text_of(d, "name", value, sizeof value);
    snprintf(full, sizeof full, "%s%s", value, d->instance < 0 ? "" : " MIG 1g.10gb");
    return answer(out, size, full);
}

status nvmlDeviceGetIndex(device *d, u32 *out)
{
    DEVICE;
    *out = (u32)d->gpu;
    return SUCCESS;
}

status nvmlDeviceGetMinorNumber(device *d, u32 *out) { return nvmlDeviceGetIndex(d, out); }

status nvmlDeviceGetCudaComputeCapability(device *d, int *major, int *minor)
{
    DEVICE;
    *major = 9;
    *minor = 0;
    return SUCCESS;
}

typedef struct { u32 pid, mib; long linger_ms; } tenant;
enum { TENANTS = 32 };

static u64 now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u64)now.tv_sec * 1000 + (u64)now.tv_nsec / 1000000;
}

static int lives(u32 pid)
{
    char path[32], line[512], state = 'Z';
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    if (fgets(line, sizeof line, file) && strrchr(line, ')'))
        state = strrchr(line, ')')[2];
    fclose(file);
    return state != 'Z' && state != 'X';
}

/* Whether the memory of a process still counts. */
static int holds(const tenant *one)
{
    static struct { u32 pid; u64 since; } gone[TENANTS];
    int free_place = -1;
    if (lives(one->pid) || one->linger_ms < 0)
        return 1;
    for (int place = 0; place < TENANTS; place++) {
        if (gone[place].pid == one->pid)
            return now_ms() - gone[place].since < (u64)one->linger_ms;
        if (!gone[place].pid && free_place < 0)
            free_place = place;
    }
    if (free_place >= 0) {
        gone[free_place].pid = one->pid;
        gone[free_place].since = now_ms();
    }
    return one->linger_ms > 0;
}

static int tenants_of(const device *d, tenant *out)
{
    char value[1024] = "", *rest = value, *part;
    int found = 0;
    text_of(d, "tenants", value, sizeof value);
    while ((part = strsep(&rest, ",")) && found < TENANTS)
        if (sscanf(part, "%u:%u:%ld", &out[found].pid, &out[found].mib, &out[found].linger_ms) == 3 && holds(&out[found]))
            found++;
    return found;
}

typedef struct { u64 total, free, used; } memory_v1;
typedef struct { u32 version; u64 total, reserved, free, used; } memory_v2;

static void memory_of(device *d, memory_v2 *out)
{
    out->total = number_of(d, "memory_total_mib", d->instance < 0 ? 81559 : 9984) << 20;
    out->used = number_of(d, "memory_used_mib", 0) << 20;
    tenant tenants[TENANTS];
    for (int count = tenants_of(d, tenants); count--;)
        out->used += (u64)tenants[count].mib << 20;
    out->reserved = number_of(d, "memory_reserved_mib", 500) << 20;
    out->free = out->total - out->used - out->reserved;
}

status nvmlDeviceGetMemoryInfo(device *d, memory_v1 *out)
{
    memory_v2 both;
    DEVICE;
    memory_of(d, &both);
    out->total = both.total;
    out->used = both.used + both.reserved;
    out->free = both.free;
    return SUCCESS;
}

status nvmlDeviceGetMemoryInfo_v2(device *d, memory_v2 *out)
{
    DEVICE;
    if (out->version != (2u << 24 | sizeof *out))
        return VERSION_MISMATCH;
    memory_of(d, out);
    return SUCCESS;
}

/* The real driver refuses these for an instance, and the first also for a GPU in MIG mode. */
status nvmlDeviceGetUtilizationRates(device *d, u32 *out)
{
    DEVICE;
    if (d->instance >= 0 || instances(d->gpu) >= 0)
        return NOT_SUPPORTED;
    out[0] = (u32)number_of(d, "utilization", 0);
    out[1] = 0;
    return SUCCESS;
}

status nvmlDeviceGetTemperature(device *d, int sensor, u32 *out)
{
    (void)sensor;
    DEVICE;
    if (d->instance >= 0)
        return INVALID_ARGUMENT;
    *out = (u32)number_of(d, "temperature_c", 40);
    return SUCCESS;
}

status nvmlDeviceGetPowerUsage(device *d, u32 *out)
{
    DEVICE;
    if (d->instance >= 0)
        return NOT_SUPPORTED;
    *out = (u32)number_of(d, "power_mw", 70000);
    return SUCCESS;
}

status nvmlDeviceGetTotalEnergyConsumption(device *d, u64 *out)
{
    struct timespec now;
    DEVICE;
    if (d->instance >= 0)
        return NOT_SUPPORTED;
    clock_gettime(CLOCK_MONOTONIC, &now);
    u64 ms = (u64)now.tv_sec * 1000 + (u64)now.tv_nsec / 1000000;
    *out = number_of(d, "energy_mj", ms * number_of(d, "power_mw", 70000) / 1000);
    return SUCCESS;
}

typedef struct { u32 pid; u64 used; u32 gpu_instance, compute_instance; } process;

status nvmlDeviceGetComputeRunningProcesses_v3(device *d, u32 *size, process *out)
{
    char value[1024] = "", *rest = value, *part;
    u32 found = 0, room = *size;
    DEVICE;
    text_of(d, "processes", value, sizeof value);
    while ((part = strsep(&rest, ","))) {
        process one = {0, 0, 0xffffffffu, 0xffffffffu};
        if (sscanf(part, "%u:%llu", &one.pid, &one.used) != 2)
            continue;
        one.used <<= 20;
        if (out && found < room)
            out[found] = one;
        found++;
    }
    tenant tenants[TENANTS];
    for (int count = number_of(d, "hidden", 0) ? 0 : tenants_of(d, tenants); count--; found++)
        if (out && found < room)
            out[found] = (process){tenants[count].pid, (u64)tenants[count].mib << 20, 0xffffffffu, 0xffffffffu};
    *size = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

status nvmlDeviceGetMigMode(device *d, u32 *current, u32 *pending)
{
    DEVICE;
    *current = *pending = instances(d->gpu) >= 0;
    return SUCCESS;
}

status nvmlDeviceGetMaxMigDeviceCount(device *d, u32 *out)
{
    DEVICE;
    *out = INSTANCES - 1;
    return SUCCESS;
}

status nvmlDeviceGetMigDeviceHandleByIndex(device *d, u32 index, device **out)
{
    DEVICE;
    if ((int)index >= instances(d->gpu))
        return NOT_FOUND;
    *out = at(d->gpu, (int)index);
    return SUCCESS;
}

status nvmlDeviceIsMigDeviceHandle(device *d, u32 *out)
{
    DEVICE;
    *out = d->instance >= 0;
    return SUCCESS;
}

status nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device *d, device **out)
{
    DEVICE;
    *out = at(d->gpu, -1);
    return SUCCESS;
}
