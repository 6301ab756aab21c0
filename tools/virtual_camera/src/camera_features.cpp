#include "camera_features.h"

#include <cassert>

#include "chunks.h"
#include "pixel_formats.h"

namespace vcam {
namespace {

constexpr double kMany = 1e9;         // of frames, counts, lines
constexpr double kBytes = 1e15;       // of a file
constexpr int64_t kTickHz = 125000000;  // 8 ns, as many GigE cameras have it

// Fills one row of the table after another; the names of the setters are those of Feature.
class Row {
public:
    Row(Feature& feature, const char* category, Kind kind, const char* about) : feature_(feature) {
        feature.category = category;
        feature.kind = kind;
        feature.about = about;
    }
    Row& range(double low, double high, double step = 1.0) {
        feature_.limits = {low, high, step};
        return *this;
    }
    Row& whole(int64_t value) { return feature_.initial.integer = value, *this; }
    Row& real(double value) { return feature_.initial.real = value, *this; }
    Row& text(const char* value) { return feature_.initial.text = value, *this; }
    Row& unit(const char* value) { return feature_.unit = value, *this; }
    Row& entries(std::vector<Entry> value) { return feature_.entries = std::move(value), *this; }
    Row& read_only() { return feature_.read_only = true, *this; }
    Row& tl_locked() { return feature_.tl_locked = true, *this; }
    Row& moving() { return feature_.moving = true, *this; }
    Row& conditional() { return feature_.conditional = true, *this; }
    Row& guarded() { return feature_.guarded = true, *this; }
    Row& choosy() { return feature_.choosy = true, *this; }
    Row& selected_by(FeatureIndex selector) { return feature_.selector = selector, *this; }

private:
    Feature& feature_;
};

class Table {
public:
    Table() {
        const char* const names[] = {
#define VCAM_NAME(name) #name,
            VCAM_FEATURES(VCAM_NAME)
#undef VCAM_NAME
        };
        for (const char* const name : names) rows_.emplace_back().name = name;
    }
    void category(const char* name) { category_ = name; }
    Row integer(FeatureIndex i, const char* about) { return row(i, Kind::integer, about); }
    Row real(FeatureIndex i, const char* about) { return row(i, Kind::real, about); }
    Row boolean(FeatureIndex i, const char* about) { return row(i, Kind::boolean, about); }
    Row choice(FeatureIndex i, const char* about) { return row(i, Kind::enumeration, about); }
    Row string(FeatureIndex i, const char* about) { return row(i, Kind::text, about); }
    Row command(FeatureIndex i, const char* about) { return row(i, Kind::command, about); }
    std::vector<Feature> done() { return std::move(rows_); }

private:
    Row row(FeatureIndex i, Kind kind, const char* about) {
        assert(rows_[i].category.empty());
        return {rows_[i], category_, kind, about};
    }
    std::vector<Feature> rows_ = {};
    const char* category_ = "";
};

std::vector<Entry> format_entries() {
    std::vector<Entry> entries;
    for (const auto& format : pixel_formats()) entries.push_back({format.name, format.code});
    return entries;
}

std::vector<Entry> chunk_entries() {
    std::vector<Entry> entries;
    for (const auto& kind : chunk_kinds()) entries.push_back({kind.name, kind.id});
    return entries;
}

void device(Table& t) {
    t.category("DeviceControl");
    t.string(DeviceVendorName, "Maker of the device").read_only();
    t.string(DeviceModelName, "Model of the device").read_only();
    t.string(DeviceSerialNumber, "Serial number").read_only();
    t.string(DeviceFirmwareVersion, "Version of the firmware").read_only();
    t.string(DeviceUserID, "Name that the user gave");
    t.choice(DeviceScanType, "Areascan: a frame is one line of the scene, bands along the height. "
                             "Linescan: a frame is many lines of one band")
        .entries({{"Areascan", kAreascan}, {"Linescan", kLinescan}}).tl_locked();
    t.choice(DeviceTemperatureSelector, "Which temperature is shown")
        .entries({{"Sensor", 0}, {"Mainboard", 1}});
    t.real(DeviceTemperature, "Drifts slowly, in steps of 1/16 degree")
        .read_only().unit("C").selected_by(DeviceTemperatureSelector);
    t.command(TimestampLatch, "Keeps the clock's value in TimestampLatchValue");
    t.integer(TimestampLatchValue, "Latched value of the device's clock, ticks").read_only();
    t.command(TimestampReset, "Sets the device's clock to 0");
    t.integer(GevTimestampTickFrequency, "Ticks of the device's clock a second")
        .read_only().whole(kTickHz).unit("Hz");
}

void image_format(Table& t) {
    t.category("ImageFormatControl");
    t.integer(SensorWidth, "Columns of the sensor").read_only();
    t.integer(SensorHeight, "Rows of the sensor").read_only();
    t.integer(WidthMax, "Largest width with the binning as it is").read_only();
    t.integer(HeightMax, "Largest height with the binning as it is").read_only();
    t.integer(Width, "Columns of the frame").moving().tl_locked();
    t.integer(Height, "Rows of the frame").moving().tl_locked();
    t.integer(OffsetX, "First column, in binned pixels").moving().tl_locked();
    t.integer(OffsetY, "First row, in binned pixels").moving().tl_locked();
    const std::vector<Entry> modes = {{"Sum", kSum}, {"Average", kAverage}};
    t.choice(BinningHorizontalMode, "How pixels of a bin are put together").entries(modes);
    t.integer(BinningHorizontal, "Columns that make one").moving().tl_locked().whole(1);
    t.choice(BinningVerticalMode, "How pixels of a bin are put together").entries(modes);
    t.integer(BinningVertical, "Rows that make one").moving().tl_locked().whole(1);
    t.choice(PixelFormat, "Layout of the pixels in a frame").entries(format_entries())
        .tl_locked().whole(pixel_formats()[4].code);
    t.integer(LinescanRow, "Row of the sensor that a line scan reads").moving().tl_locked();
}

void acquisition(Table& t) {
    t.category("AcquisitionControl");
    t.choice(AcquisitionMode, "How many frames an acquisition has").tl_locked().entries(
        {{"Continuous", kContinuous}, {"SingleFrame", kSingleFrame}, {"MultiFrame", kMultiFrame}});
    t.integer(AcquisitionFrameCount, "Frames of a MultiFrame acquisition")
        .range(1, kMany).whole(1).tl_locked();
    t.command(AcquisitionStart, "Starts the acquisition");
    t.command(AcquisitionStop, "Ends the acquisition");
    t.choice(ExposureMode, "How the exposure is controlled").entries({{"Timed", 1}}).whole(1);
    t.real(ExposureTime, "Exposure of a frame or line")
        .range(1, 1e7).real(kDefaultExposureUs).unit("us");
    t.boolean(AcquisitionFrameRateEnable, "False: as fast as exposure and readout allow").whole(1);
    t.real(AcquisitionFrameRate, "Frames a second; 0: one whenever a buffer is queued. Its largest "
                                 "value is 1 / (exposure + readout)")
        .moving().real(100.0).unit("Hz");
    t.real(AcquisitionLineRate, "Lines a second of a line scan: rate of frames times Height")
        .moving().conditional().unit("Hz");
    t.choice(TriggerSelector, "Which trigger is set up").choosy().whole(kFrameStart).entries(
        {{"AcquisitionStart", kAcquisitionStart}, {"FrameStart", kFrameStart},
         {"LineStart", kLineStart}});
    t.choice(TriggerMode, "Whether the trigger is used").selected_by(TriggerSelector)
        .entries({{"Off", 0}, {"On", 1}});
    t.choice(TriggerSource, "Line1 is the output of the encoder").selected_by(TriggerSelector)
        .entries({{"Software", kSoftware}, {"Line1", kLine1}});
    t.command(TriggerSoftware, "Triggers what TriggerSelector names");
    t.real(SensorRowTime, "Time that the sensor needs to read one of its rows")
        .range(0, 1e4).real(0.5).unit("us");
    t.category("AnalogControl");
    t.real(Gain, "Applied to the signal over black").range(0, 24).unit("dB");
    t.real(BlackLevel, "Counts without light, in counts of the scene")
        .moving().real(kDefaultBlack);
}

void lines_and_shutter(Table& t) {
    t.category("EncoderControl");
    t.integer(EncoderDivider, "Counts from trigger to trigger").range(1, 1e6).whole(1);
    t.choice(EncoderOutputMode, "Which counts trigger: new furthest positions, all forward ones, "
                                "or all").entries(
        {{"PositionUp", 0}, {"DirectionUp", 1}, {"Motion", 2}});
    t.integer(EncoderValue, "Position").read_only();
    t.command(EncoderReset, "Sets the position to 0");
    t.real(EncoderRate, "Counts a second while the stage moves; 0: it stands")
        .range(0, 1e6).real(1000.0).unit("Hz");
    t.real(EncoderJitter, "Of the moment of a count, part of the distance of counts").range(0, 1);
    t.real(EncoderStartDelay, "The stage stands for so long at first").range(0, 3600).unit("s");
    t.integer(EncoderPauseEvery, "Counts after which the stage stands; 0: never").range(0, kMany);
    t.real(EncoderPauseTime, "For so long").range(0, 3600).unit("s");
    t.integer(EncoderReverseEvery, "Counts forward after which it goes back; 0: never")
        .range(0, kMany);
    t.integer(EncoderReverseCount, "By so many").range(0, kMany);
    t.category("DigitalIOControl");
    t.integer(LineStatusAll, "Bit 0: Line1, the lowest bit of the position").read_only();
    t.category("ShutterControl");
    // SFNC has no feature for a mechanical shutter. Specim's FX cameras, the commonest push-broom
    // cameras with GenICam, have these two: a motor pulse of so many milliseconds.
    t.integer(MotorShutter_PulseFwd, "Closes the shutter, with a pulse of so many ms").range(0, 255);
    t.integer(MotorShutter_PulseRev, "Opens the shutter, with a pulse of so many ms").range(0, 255);
    t.boolean(ShutterClosed, "Where the shutter is now").read_only();
}

void transport(Table& t) {
    t.category("ChunkDataControl");
    t.boolean(ChunkModeActive, "Frames carry chunks").tl_locked();
    t.choice(ChunkSelector, "Which chunk is set up").entries(chunk_entries())
        .whole(kChunkTimestamp);
    t.boolean(ChunkEnable, "Whether frames carry this chunk").selected_by(ChunkSelector)
        .tl_locked().whole(1);
    t.category("TransportLayerControl");
    t.integer(PayloadSize, "Bytes of a frame").read_only().unit("B");
    t.integer(TLParamsLocked, "1: what decides on the size of frames cannot be set").range(0, 1);
    t.boolean(PtpEnable, "Takes the time from the network; the clock then shows UTC");
    t.choice(PtpStatus, "State of the clock's synchronisation").read_only().entries(
        {{"Initializing", kPtpInitializing}, {"Disabled", kPtpDisabled},
         {"Listening", kPtpListening}, {"Uncalibrated", kPtpUncalibrated}, {"Slave", kPtpSlave}});
    t.choice(GevGVSPExtendedIDMode, "Off: frame ids have 16 bits").conditional().tl_locked()
        .entries({{"Off", 0}, {"On", 1}});
    t.category("UserSetControl");
    t.choice(UserSetSelector, "Which set of settings")
        .entries({{"Default", 0}, {"UserSet0", 1}});
    t.command(UserSetLoad, "Takes all settings from the set").guarded();
    t.command(UserSetSave, "Keeps all settings in UserSet0, until the device is closed");
}

void scene(Table& t) {
    t.category("SceneControl");
    t.string(SceneFile, "What is played; empty: a test pattern").tl_locked();
    t.integer(SceneOffset, "Bytes before the first count").range(0, kBytes).tl_locked();
    t.integer(SceneLines, "0: all that the file holds").range(0, kMany).tl_locked();
    t.integer(SceneBands, "Rows of the sensor").range(1, 65536).whole(448).tl_locked();
    t.integer(SceneSamples, "Columns of the sensor").range(1, 65536).whole(1024).tl_locked();
    t.integer(SceneBits, "Of a count; above 8 a count has two bytes, little-endian")
        .range(1, 16).whole(12).tl_locked();
    t.choice(SceneInterleave, "Order of the counts").tl_locked()
        .entries({{"bil", 0}, {"bip", 1}, {"bsq", 2}});
    t.command(SceneLoad, "Takes the scene that the features above name").guarded();
    t.boolean(SceneLoop, "Begins again after the last line; else the frames end").whole(1);
    t.integer(SceneFirstLine, "Line of the scene that the first frame shows").range(0, kMany);
    t.real(SceneExposureTime, "Exposure at which the scene comes as it is in the file")
        .range(1, 1e7).real(kDefaultExposureUs).unit("us");
    t.real(SceneBlackLevel, "Counts of the file that are no signal").range(0, 65535)
        .real(kDefaultBlack);
    t.integer(StatFrames, "Frames since the start, lost ones included").read_only();
    t.integer(StatFramesLost, "Of these lost: no buffer was queued, or a fault").read_only();
    t.integer(StatTriggersMissed, "Triggers that came while a frame was exposed or read")
        .read_only();
}

void faults(Table& t) {
    t.category("FaultControl");
    t.integer(FaultFrameLossEvery, "Each n-th frame is lost").range(0, kMany);
    t.integer(FaultIncompleteEvery, "Each n-th frame is incomplete").range(0, kMany);
    t.integer(FaultPaddingX, "Bytes at the end of each row").range(0, 4096).tl_locked();
    t.boolean(FaultFrameID16Bit, "Frame ids go from 1 to 65535, then from 1 again");
    t.integer(FaultFrameIDStart, "Added to the first frame's id").range(0, 4e9);
    t.integer(FaultTimestampResetAfter, "The clock is 0 again at this frame").range(0, kMany);
    t.string(FaultRefuseFeature, "This feature cannot be set");
    t.integer(FaultStallAfter, "Nothing comes after so many frames …").range(0, kMany);
    t.real(FaultStallTime, "… for so long; the frames of this time are lost")
        .range(0, 3600).unit("s");
    t.integer(FaultUnplugAfter, "The device is gone after so many frames").range(0, kMany);
    t.real(FaultUnplugAfterTime, "Or so long after the start").range(0, 3600).unit("s");
    t.real(FaultUnplugTime, "It is back after so long").range(0, 3600).real(1.0).unit("s");
    t.boolean(FaultUnplugSilent, "Waiting for frames times out instead of failing");
    t.boolean(FaultUnplugKeepsInfo, "What the host knows of the device can still be asked for");
    t.integer(FaultCrashAfter, "The process aborts after so many frames").range(0, kMany);
    t.integer(FaultStrikes, "So many unpluggings and crashes at most, counted over all processes; "
                            "0: no limit").range(0, kMany);
}

}  // namespace

std::vector<Feature> camera_features() {
    Table table;
    device(table);
    image_format(table);
    acquisition(table);
    lines_and_shutter(table);
    transport(table);
    scene(table);
    faults(table);
    return table.done();
}

}  // namespace vcam
