//! A packet's way in words: frames from descriptions, walks over tables that are only read, and what they say.
//!
//! What this is: pure functions over [`pipeline`]'s host build. What it is not: it reads no kernel and asks no
//! host; agents give the tables, and whoever asks follows the frames from host to host.

pub mod edge;
pub mod filter;
pub mod frames;
pub mod pcap;
mod state;
mod walk;
mod words;

pub use packet::MacAddr;
pub use pipeline::Stage;
pub use state::NotReadable;
pub use walk::{Arrival, Surroundings, walk};
pub use words::{Link, Names, rule_entry_text, rules_of, worded};
