//! Metrics for Prometheus: which there are ([`families`]), and the page that shows them.
//!
//! Names follow Prometheus' conventions: `nanboku_`, the part, what is measured, the unit; counters end in
//! `_total`. Every label has few values, known beforehand (stages, reasons, states, routes): no ports, addresses or
//! connections, which would make a series of each. A page is made anew for each scrape from what its owner knows
//! then; nothing here is global.

pub mod families;
mod page;
mod serve;

pub use families::Family;
pub use page::{Latency, Page};
pub use serve::{CONTENT_TYPE, router, serve};
