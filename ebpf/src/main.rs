//! The programs that packets meet: nobody looks on.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod maps;
mod programs;
mod skb;
#[path = "unwatched.rs"]
mod watch;
