//! Integers in memory shared between CPUs: the standard library's atomics, or, in the eBPF object, their
//! equivalent in BPF instructions, because `core` has no read-modify-write atomics for that target.
//!
//! What this is not: a way to order anything. Every access is relaxed; the orderings in the signatures only
//! keep the two builds' source alike. The single place with `unsafe` outside the loader and the programs.

#[cfg(not(target_arch = "bpf"))]
pub use core::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(target_arch = "bpf")]
pub use bpf::{AtomicU32, AtomicU64};

#[cfg(target_arch = "bpf")]
mod bpf {
    use core::cell::UnsafeCell;
    use core::intrinsics::{AtomicOrdering::Relaxed, atomic_or, atomic_xadd};
    use core::sync::atomic::Ordering;
    use zerocopy::{FromBytes, IntoBytes, KnownLayout};

    macro_rules! atomic {
        ($name:ident, $integer:ty) => {
            #[repr(transparent)]
            #[derive(Debug, Default, FromBytes, IntoBytes, KnownLayout)]
            pub struct $name(UnsafeCell<$integer>);

            // SAFETY: every access goes through the methods below, which are single BPF instructions on an
            // aligned word; the BPF memory model makes those atomic.
            unsafe impl Sync for $name {}

            impl $name {
                pub const fn new(value: $integer) -> Self {
                    Self(UnsafeCell::new(value))
                }

                #[inline(always)]
                pub fn load(&self, _: Ordering) -> $integer {
                    // SAFETY: valid and aligned by `&self`; volatile makes it one load of the word.
                    unsafe { self.0.get().read_volatile() }
                }

                #[inline(always)]
                pub fn store(&self, value: $integer, _: Ordering) {
                    // SAFETY: valid and aligned by `&self`; volatile makes it one store of the word.
                    unsafe { self.0.get().write_volatile(value) }
                }

                #[inline(always)]
                pub fn fetch_add(&self, value: $integer, _: Ordering) -> $integer {
                    // SAFETY: valid and aligned by `&self`.
                    unsafe { atomic_xadd::<$integer, $integer, { Relaxed }>(self.0.get(), value) }
                }

                #[inline(always)]
                pub fn fetch_or(&self, value: $integer, _: Ordering) -> $integer {
                    // SAFETY: valid and aligned by `&self`.
                    unsafe { atomic_or::<$integer, $integer, { Relaxed }>(self.0.get(), value) }
                }
            }
        };
    }

    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);
}
