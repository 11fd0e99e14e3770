//! The host build's surroundings: frames in vectors and tables in maps, with the semantics of the BPF
//! helpers. For tests, fuzzing, the simulator and the trace; never in the packet path of a host.

mod frame;
mod recorder;
mod source;
mod tables;

pub use frame::Frame;
pub use recorder::{Changes, Look, Recorder, State, Step};
pub use source::Source;
pub use tables::HostTables;
