//! Nobody looks on: all of it is nothing.

use pipeline::walk::{Hook, Work};
use pipeline::{Packet, Stage, Verdict};

#[inline(always)]
pub(crate) fn enter(_stage: Stage) {}

#[inline(always)]
pub(crate) fn arrive<P: Packet>(_packet: &P, _hook: Hook, _ingress: u32) {}

#[inline(always)]
pub(crate) fn leave<P: Packet>(_packet: &P, _work: &Work, _verdict: Verdict) {}
