//! Goal: however many rows there are, they leave in chunks of bounded size, and no more are made than are taken.
//! Method: sessions that exist only while they are told.

use super::*;
use crate::scene::fixture;
use dataplane::SessionRow;
use pipeline::session::{Path, Session, SessionKey};
use std::net::Ipv4Addr;
use std::time::Instant;

/// Enough for dozens of chunks; the rate is that of a build without optimisation.
const MANY: u32 = 50_000;

fn session(number: u32) -> SessionRow {
    let key = SessionKey {
        vni: fixture::BLUE,
        src: fixture::VM_A.into(),
        dst: Ipv4Addr::from(0x0800_0000 + number / 50_000).into(),
        src_port: (number % 50_000) as u16,
        dst_port: 443,
        protocol: 6,
        zero: [0; 3],
    };
    let reply = SessionKey {
        vni: fixture::EXTERNAL,
        src: key.dst,
        dst: fixture::SNAT.into(),
        src_port: 443,
        dst_port: key.src_port,
        ..key
    };
    let path = Path { output: Path::OUT_UPLINK, ifindex: fixture::UPLINK, vlan: 2207, ..Path::default() };
    SessionRow {
        key,
        reply,
        flags: Session::NAT_SNAT,
        created_ns: 1,
        last_ns: 2,
        packets: [10, 9],
        bytes: [1000, 900],
        seen: 0,
        router_vni: fixture::ROUTER,
        external_vni: fixture::EXTERNAL,
        paths: [path; 2],
    }
}

/// The rate is printed; it is of no use as a condition here.
#[test]
fn many_sessions_leave_in_chunks_of_bounded_size() {
    let scene = fixture::scene(Instant::now());
    let (mut lines, mut longest) = (0_usize, 0);
    let started = Instant::now();
    let mut rows = Rows::new(|chunk| {
        lines += chunk.iter().filter(|byte| **byte == b'\n').count();
        longest = longest.max(chunk.len());
        ControlFlow::Continue(())
    });
    let sessions = (0..MANY).map(|number| Ok(session(number)));
    tell_sessions(sessions, &SessionFilter::default(), &scene, None, &mut rows).unwrap();
    assert!(rows.flush().is_continue());
    drop(rows);
    let elapsed = started.elapsed();
    println!("{MANY} rows in {elapsed:?}: {:.0} rows/s", f64::from(MANY) / elapsed.as_secs_f64());
    assert_eq!(lines, MANY as usize);
    assert!(longest <= CHUNK_LEN + 1024, "{longest} bytes in one chunk");
}

#[test]
fn when_nobody_takes_more_no_more_is_read() {
    let scene = fixture::scene(Instant::now());
    let mut read = 0_u32;
    let mut rows = Rows::new(|_| ControlFlow::Break(()));
    let sessions = (0..MANY).map(session).inspect(|_| read += 1).map(Ok);
    tell_sessions(sessions, &SessionFilter::default(), &scene, None, &mut rows).unwrap();
    assert!(read < 1000, "{read} sessions read for one chunk");
}

#[test]
fn a_limit_is_the_number_of_rows() {
    let scene = fixture::scene(Instant::now());
    let mut lines = 0;
    let mut rows = Rows::new(|chunk| {
        lines += chunk.iter().filter(|byte| **byte == b'\n').count();
        ControlFlow::Continue(())
    });
    let filter = SessionFilter { limit: Some(5), ..SessionFilter::default() };
    tell_sessions((0..MANY).map(|number| Ok(session(number))), &filter, &scene, None, &mut rows).unwrap();
    assert!(rows.flush().is_continue());
    drop(rows);
    assert_eq!(lines, 5);
}
