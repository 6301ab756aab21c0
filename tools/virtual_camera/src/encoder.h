// A simulated encoder on the stage: even steps with jitter, pauses and reversals.
#pragma once

#include <cstdint>
#include <random>

namespace vcam {

enum class EncoderOutput : int64_t { position_up = 0, direction_up = 1, motion = 2 };

struct EncoderSettings {
    double rate = 1000.0;         // counts a second
    double jitter = 0.0;          // of the moment of a count, part of the counts' distance, 0 … 1
    double start_delay_s = 0.0;   // the stage stands for so long at first
    int64_t pause_every = 0;      // stands after so many counts …
    double pause_s = 0.0;         // … for so long
    int64_t reverse_every = 0;    // goes back after so many counts forward …
    int64_t reverse_count = 0;    // … by so many
    int64_t divider = 1;          // counts from trigger to trigger
    EncoderOutput output = EncoderOutput::position_up;
};

class Encoder {
public:
    explicit Encoder(const EncoderSettings& settings) : settings_(settings) {}

    bool moves() const { return settings_.rate > 0.0; }
    // Time of the next count, seconds after the start.
    double next_s() const { return next_s_; }
    int64_t position() const { return position_; }
    // Makes the next count; true when it fires a trigger.
    bool step();
    // Makes all counts up to a time.
    void advance(double until_s) {
        while (moves() && next_s_ <= until_s) step();
    }
    void start() { plan(); }

private:
    void plan();

    EncoderSettings settings_;
    std::mt19937_64 random_{1};
    double even_s_ = 0.0, next_s_ = 0.0, stood_s_ = 0.0;
    int64_t steps_ = 0, position_ = 0, furthest_ = 0, since_trigger_ = 0;
    int64_t forward_ = 0, back_ = 0;
};

}  // namespace vcam
