// A module's features as registers, and the XML that describes them: one table gives both.
//
// Each feature has a page of the register space. Its value is at the start of the page; limits,
// availability and lock, where they can change, are registers behind it, so that GenApi asks the
// device instead of guessing. Nothing is cached by GenApi: a read costs no more than a call here.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "module.h"

namespace vcam {

enum class Kind { integer, real, boolean, enumeration, text, command };

struct Entry {
    std::string name;
    int64_t value;
};

struct Value {
    int64_t integer = 0;
    double real = 0.0;
    std::string text = {};
};

struct Limits {
    double low = 0.0;
    double high = 0.0;
    double step = 1.0;  // of integers
};

struct Feature {
    std::string name = {};
    std::string category = {};
    std::string about = {};
    std::string unit = {};
    Kind kind = Kind::integer;
    bool read_only = false;
    bool tl_locked = false;    // cannot be set while TLParamsLocked is 1
    bool moving = false;       // limits() changes
    bool conditional = false;  // available() changes
    bool guarded = false;      // locked() changes
    bool choosy = false;       // some entries are not always available
    Limits limits = {};
    std::vector<Entry> entries = {};
    int selector = -1;  // the feature that selects which value this one shows
    Value initial = {};
};

class Registers {
public:
    explicit Registers(std::string model) : model_(std::move(model)) {}
    virtual ~Registers() = default;
    Registers(const Registers&) = delete;
    Registers& operator=(const Registers&) = delete;

    static constexpr uint64_t kXmlAddress = 0x40000000;

    const std::string& xml();
    void read(uint64_t address, void* out, size_t size);
    void write(uint64_t address, const void* in, size_t size);
    // Sets a feature by its name from a text, as environment variables do; limits apply.
    void set_by_name(const std::string& name, const std::string& text);
    std::string model() const { return model_; }

protected:
    static constexpr uint64_t kFirstPage = 0x10000, kPage = 0x1000, kText = 0x400;
    static constexpr uint64_t kLow = 0x800, kHigh = 0x808, kStep = 0x810;
    static constexpr uint64_t kAvailable = 0x818, kLocked = 0x820, kEntries = 0x828;

    int add(Feature feature);
    const Feature& feature(int index) const { return features_[static_cast<size_t>(index)]; }
    int count() const { return static_cast<int>(features_.size()); }
    int index_of(const std::string& name) const;
    // The stored value; of a selected feature the one that its selector points at now.
    Value& stored(int index);
    Value& stored(int index, int64_t selected);
    void reset_stored(int index);
    // Checks and sets; throws what the consumer shall see.
    void change(int index, const Value& value);

    virtual Value get(int index) { return stored(index); }
    virtual void set(int index, const Value& value) { stored(index) = value; }
    virtual Limits limits(int index) { return feature(index).limits; }
    virtual bool available(int) { return true; }
    virtual bool entry_available(int, int64_t) { return true; }
    virtual bool locked(int) { return false; }
    virtual void before_access() {}
    // Nodes that are no registers of this module, and which of them a category shows.
    virtual std::string extra_xml() const { return {}; }
    virtual std::vector<std::string> extra_features(const std::string&) const { return {}; }

    std::recursive_mutex mutex_;

private:
    std::string page(int index, uint64_t& offset, size_t size);
    size_t entry_index(int index, int64_t value) const;

    std::string model_;
    std::vector<Feature> features_;
    std::vector<std::vector<Value>> values_;
    std::string xml_;

    friend class XmlWriter;
};

}  // namespace vcam
