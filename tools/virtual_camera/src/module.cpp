#include "module.h"

#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

namespace vcam {
namespace {

std::atomic<bool> initialised{false};

struct LastError {
    GC_ERROR code = GC_ERR_SUCCESS;
    std::string text = "no error";
};
thread_local LastError last_error;

struct Handles {
    std::shared_mutex mutex;
    std::unordered_map<void*, std::shared_ptr<Handled>> objects;
    uintptr_t next = 0x10000;
};

Handles& handles() {
    // Never destroyed: threads of a process that exits may still hold handles.
    static auto* const all = new Handles;
    return *all;
}

}  // namespace

void fail(GC_ERROR code, const std::string& text) { throw Error{code, text}; }

void* enlist(const std::shared_ptr<Handled>& object) {
    auto& all = handles();
    const std::unique_lock lock(all.mutex);
    object->handle = reinterpret_cast<void*>(all.next += 16);
    all.objects[object->handle] = object;
    return object->handle;
}

void delist(void* handle) {
    std::shared_ptr<Handled> last;  // destroyed after the lock is given back
    auto& all = handles();
    const std::unique_lock lock(all.mutex);
    const auto found = all.objects.find(handle);
    if (found == all.objects.end()) return;
    last = std::move(found->second);
    all.objects.erase(found);
}

std::shared_ptr<Handled> lookup(void* handle) {
    auto& all = handles();
    const std::shared_lock lock(all.mutex);
    const auto found = all.objects.find(handle);
    return found == all.objects.end() ? nullptr : found->second;
}

bool is_initialised() { return initialised; }
void set_initialised(bool yes) { initialised = yes; }

void set_last_error(GC_ERROR code, const std::string& text) { last_error = {code, text}; }

Answer::Answer(INFO_DATATYPE* type, void* buffer, size_t* size)
    : type_(type), buffer_(buffer), size_(size) {
    given(size, "the size");
}

void Answer::bytes(INFO_DATATYPE type, const void* data, size_t size) {
    if (type_ != nullptr) *type_ = type;
    const size_t room = *size_;
    *size_ = size;
    if (buffer_ == nullptr) return;
    if (room < size) {
        fail(GC_ERR_BUFFER_TOO_SMALL, "found room for " + std::to_string(room) +
                                          " bytes, needed are " + std::to_string(size));
    }
    std::memcpy(buffer_, data, size);
}

}  // namespace vcam

using namespace vcam;

GC_ERROR GCGetLastError(GC_ERROR* code, char* text, size_t* size) {
    // A failure of this very function must not overwrite what it reports.
    if (code == nullptr || size == nullptr) return GC_ERR_INVALID_PARAMETER;
    *code = last_error.code;
    const size_t room = *size;
    *size = last_error.text.size() + 1;
    if (text == nullptr) return GC_ERR_SUCCESS;
    if (room < *size) return GC_ERR_BUFFER_TOO_SMALL;
    std::memcpy(text, last_error.text.c_str(), *size);
    return GC_ERR_SUCCESS;
}
