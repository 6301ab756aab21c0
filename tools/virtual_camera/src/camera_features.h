// The camera's features: their names, and the table that says what each is.
#pragma once

#include "registers.h"

namespace vcam {

// Enumerator and SFNC name are the same word. Names that SFNC does not have are the virtual
// camera's own (Scene…, Encoder… beyond SFNC, Fault…), or common vendors' (MotorShutter_…).
#define VCAM_FEATURES(X)                                                                          \
    X(DeviceVendorName) X(DeviceModelName) X(DeviceSerialNumber) X(DeviceFirmwareVersion)         \
    X(DeviceUserID) X(DeviceScanType) X(DeviceTemperatureSelector) X(DeviceTemperature)           \
    X(TimestampLatch) X(TimestampLatchValue) X(TimestampReset) X(GevTimestampTickFrequency)       \
    X(SensorWidth) X(SensorHeight) X(WidthMax) X(HeightMax) X(Width) X(Height) X(OffsetX)         \
    X(OffsetY) X(BinningHorizontalMode) X(BinningHorizontal) X(BinningVerticalMode)               \
    X(BinningVertical) X(PixelFormat) X(LinescanRow) X(AcquisitionMode) X(AcquisitionFrameCount)  \
    X(AcquisitionStart) X(AcquisitionStop) X(ExposureMode) X(ExposureTime)                        \
    X(AcquisitionFrameRateEnable) X(AcquisitionFrameRate) X(AcquisitionLineRate)                  \
    X(TriggerSelector) X(TriggerMode) X(TriggerSource) X(TriggerSoftware) X(SensorRowTime)        \
    X(Gain) X(BlackLevel) X(EncoderDivider) X(EncoderOutputMode) X(EncoderValue) X(EncoderReset)  \
    X(EncoderRate) X(EncoderJitter) X(EncoderStartDelay) X(EncoderPauseEvery) X(EncoderPauseTime) \
    X(EncoderReverseEvery) X(EncoderReverseCount) X(LineStatusAll) X(MotorShutter_PulseFwd)       \
    X(MotorShutter_PulseRev) X(ShutterClosed) X(ChunkModeActive) X(ChunkSelector) X(ChunkEnable)  \
    X(PayloadSize) X(TLParamsLocked) X(PtpEnable) X(PtpStatus) X(GevGVSPExtendedIDMode)           \
    X(UserSetSelector) X(UserSetLoad) X(UserSetSave) X(SceneFile) X(SceneOffset) X(SceneLines)    \
    X(SceneBands) X(SceneSamples) X(SceneBits) X(SceneInterleave) X(SceneLoad) X(SceneLoop)       \
    X(SceneFirstLine) X(SceneExposureTime) X(SceneBlackLevel) X(StatFrames) X(StatFramesLost)     \
    X(StatTriggersMissed) X(FaultFrameLossEvery) X(FaultIncompleteEvery) X(FaultPaddingX)         \
    X(FaultFrameID16Bit) X(FaultFrameIDStart) X(FaultTimestampResetAfter) X(FaultRefuseFeature)   \
    X(FaultStallAfter) X(FaultStallTime) X(FaultUnplugAfter) X(FaultUnplugAfterTime)              \
    X(FaultUnplugTime) X(FaultUnplugSilent) X(FaultUnplugKeepsInfo) X(FaultCrashAfter)             \
    X(FaultStrikes)

enum FeatureIndex : int {
#define VCAM_ENUMERATOR(name) name,
    VCAM_FEATURES(VCAM_ENUMERATOR)
#undef VCAM_ENUMERATOR
        kFeatureCount
};

enum ScanType : int64_t { kAreascan = 0, kLinescan = 1 };
enum AcquisitionModeValue : int64_t { kContinuous = 0, kSingleFrame = 1, kMultiFrame = 2 };
enum TriggerSelectorValue : int64_t { kAcquisitionStart = 0, kFrameStart = 1, kLineStart = 2 };
enum TriggerSourceValue : int64_t { kSoftware = 0, kLine1 = 1 };
enum BinningModeValue : int64_t { kSum = 0, kAverage = 1 };
enum PtpStatusValue : int64_t {
    kPtpInitializing = 1, kPtpDisabled = 3, kPtpListening = 4, kPtpUncalibrated = 8, kPtpSlave = 9
};

constexpr double kDefaultExposureUs = 1000.0;
constexpr double kDefaultBlack = 64.0;
constexpr int64_t kLinescanHeight = 64, kLinescanHeightMax = 4096;

std::vector<Feature> camera_features();

}  // namespace vcam
