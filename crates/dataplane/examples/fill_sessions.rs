//! Fills the pinned sessions of a host whose agent is away: `fill_sessions PIN_DIR VNI COUNT`. The tables are made for
//! so many if they are not there yet. For `scripts/measure-sessions`.

use dataplane::{Dataplane, Settings, Sizes, testrun};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pin_dir, vni, count] = &arguments[..] else { return Err("fill_sessions PIN_DIR VNI COUNT".into()) };
    let (vni, count) = (vni.parse()?, count.parse::<u32>()?);
    let sizes = Sizes { sessions: count.saturating_add(count / 8).max(1024), ..Sizes::default() };
    let dataplane = Dataplane::open(&Settings { pin_dir: pin_dir.into(), sizes })?;
    testrun::fill_sessions(&dataplane, vni, count)?;
    println!("{} sessions", dataplane.sessions().count());
    Ok(())
}
