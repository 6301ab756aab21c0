#include "device_state.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "module.h"

namespace vcam {
namespace {

std::string folder() {
    const char* const given = std::getenv("SWATH_VIRTUAL_LOCKS");
    if (given != nullptr && *given != '\0') return given;
    return "/tmp/swath-virtual-" + std::to_string(getuid());
}

int64_t boot_ns() {
    timespec now = {};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * int64_t{1000000000} + now.tv_nsec;
}

struct flock whole_file(short type) {
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    return lock;
}

}  // namespace

DeviceState::DeviceState(const std::string& serial) {
    const auto where = folder();
    mkdir(where.c_str(), 0700);
    const auto name = where + "/" + serial + ".lock";
    file_ = open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file_ < 0) fail(GC_ERR_IO, name + ": " + std::strerror(errno));
}

DeviceState::~DeviceState() { close(file_); }

bool DeviceState::lock() {
    auto lock = whole_file(F_WRLCK);
    return fcntl(file_, F_OFD_SETLK, &lock) == 0;
}

void DeviceState::unlock() {
    auto lock = whole_file(F_UNLCK);
    fcntl(file_, F_OFD_SETLK, &lock);
}

bool DeviceState::locked_elsewhere() const {
    auto lock = whole_file(F_WRLCK);
    return fcntl(file_, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

DeviceState::Record DeviceState::load() const {
    Record record;
    if (pread(file_, &record, sizeof record, 0) != static_cast<ssize_t>(sizeof record)) return {};
    return record;
}

void DeviceState::store(const Record& record) const {
    if (pwrite(file_, &record, sizeof record, 0) != static_cast<ssize_t>(sizeof record)) {
        fail(GC_ERR_IO, std::string("lock file: ") + std::strerror(errno));
    }
}

bool DeviceState::absent() const { return boot_ns() < load().absent_until_ns; }

int64_t DeviceState::strikes() const { return load().strikes; }

void DeviceState::strike() {
    auto record = load();
    ++record.strikes;
    store(record);
}

void DeviceState::unplug(double for_s) {
    auto record = load();
    ++record.strikes;
    record.absent_until_ns = boot_ns() + static_cast<int64_t>(for_s * 1e9);
    store(record);
}

}  // namespace vcam
