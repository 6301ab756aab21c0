#include "encoder.h"

namespace vcam {

// The moment of the next count: even, plus pauses, shaken by less than half a count each way.
void Encoder::plan() {
    if (!moves()) return;
    if (settings_.pause_every > 0 && steps_ > 0 && steps_ % settings_.pause_every == 0) {
        stood_s_ += settings_.pause_s;
    }
    even_s_ = static_cast<double>(steps_ + 1) / settings_.rate;
    const double shake = std::uniform_real_distribution<double>(-0.5, 0.5)(random_);
    next_s_ = settings_.start_delay_s + stood_s_ + even_s_ +
              shake * settings_.jitter / settings_.rate;
}

bool Encoder::step() {
    ++steps_;
    const bool back = back_ > 0;
    if (back) {
        --back_;
        --position_;
    } else {
        ++position_;
        if (++forward_ == settings_.reverse_every) {
            forward_ = 0;
            back_ = settings_.reverse_count;
        }
    }
    plan();
    switch (settings_.output) {
        case EncoderOutput::position_up:
            if (position_ <= furthest_) return false;
            furthest_ = position_;
            return position_ % settings_.divider == 0;
        case EncoderOutput::direction_up:
            if (back) return false;
            break;
        case EncoderOutput::motion: break;
    }
    if (++since_trigger_ < settings_.divider) return false;
    since_trigger_ = 0;
    return true;
}

}  // namespace vcam
