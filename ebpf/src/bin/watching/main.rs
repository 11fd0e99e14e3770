//! The same programs, which tell of packets: they take the others' place for as long as somebody captures.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[path = "../../maps.rs"]
mod maps;
#[path = "../../programs.rs"]
mod programs;
#[path = "../../skb.rs"]
mod skb;
mod watch;
