//! The few `bpf(2)` commands on maps and links, typed by zerocopy.
//!
//! The loader (aya) creates maps and programs; reading and writing elements is here, because whole tables
//! are read in batches: a batch walks the kernel's buckets, so it ends even while elements come and go.

use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use zerocopy::{FromBytes, IntoBytes};

const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const OBJ_GET: libc::c_int = 7;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const MAP_LOOKUP_BATCH: libc::c_int = 24;
const LINK_DETACH: libc::c_int = 34;

/// Elements read by one call. More than any bucket of a hash holds.
const BATCH: usize = 512;

/// `bpf_attr` of the element commands.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `bpf_attr` of the batch commands.
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// `bpf_attr` of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InfoAttr {
    fd: u32,
    info_len: u32,
    info: u64,
}

/// `bpf_attr` of `BPF_OBJ_GET`.
#[repr(C)]
struct PathAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `bpf_attr` of `BPF_LINK_DETACH`.
#[repr(C)]
struct LinkAttr {
    fd: u32,
}

/// # Safety
/// `attr` is the attribute of `command`, and every pointer in it is valid for what the command does.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<i64> {
    // SAFETY: by the caller; the kernel reads and writes at most the size given.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A hash, LPM trie or array of the types given.
///
/// Invariant: the kernel's key and value sizes are those of `K` and `V` (checked by [`MapFd::new`]).
#[derive(Debug)]
pub(crate) struct MapFd<K, V> {
    fd: OwnedFd,
    types: PhantomData<fn() -> (K, V)>,
}

/// What the kernel says of a map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MapInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    rest: [u32; 18],
}

/// What the kernel says of a tcx link.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkInfo {
    kind: u32,
    id: u32,
    program_id: u32,
    zero: u32,
    /// 0: the interface is gone, the link is dead.
    pub(crate) ifindex: u32,
    rest: [u32; 11],
}

fn info<T: Default>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::default();
    let mut attr = InfoAttr {
        fd: fd.as_raw_fd().cast_unsigned(),
        info_len: size_of_val(&info) as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: `info` is plain integers of the length given, and lives until the call returns.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// Opens a pinned object.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = PathAttr { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the path is a C string that lives until the call returns.
    let fd = unsafe { bpf(OBJ_GET, &mut attr) }?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Detaches a link at once; removing its last reference does so some time later.
pub(crate) fn detach_link(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkAttr { fd: fd.as_raw_fd().cast_unsigned() };
    // SAFETY: no pointers.
    unsafe { bpf(LINK_DETACH, &mut attr) }.map(drop)
}

pub(crate) fn map_info(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(fd)
}

pub(crate) fn link_info(fd: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info(fd)
}

impl<K, V> MapFd<K, V> {
    /// Refuses a map whose sizes are not those of `K` and `V`, with the sizes it has.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Result<Self, MapInfo>> {
        let info = map_info(fd.as_fd())?;
        if (info.key_size as usize, info.value_size as usize) != (size_of::<K>(), size_of::<V>()) {
            return Ok(Err(info));
        }
        Ok(Ok(Self { fd, types: PhantomData }))
    }

    /// Another handle of the same map.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, types: PhantomData })
    }

    fn attr(&self, key: &K, value: u64, flags: u64) -> ElementAttr {
        ElementAttr {
            map_fd: self.fd.as_raw_fd().cast_unsigned(),
            zero: 0,
            key: std::ptr::from_ref(key) as u64,
            value,
            flags,
        }
    }
}

impl<K: IntoBytes, V: FromBytes + IntoBytes> MapFd<K, V> {
    pub(crate) fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::new_zeroed();
        let mut attr = self.attr(key, std::ptr::from_mut(&mut value) as u64, 0);
        // SAFETY: key and value have the map's sizes (invariant), and any bytes are a `V`.
        match unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds or replaces. An element of a hash is exchanged as a whole.
    pub(crate) fn put(&self, key: &K, value: &V) -> io::Result<()> {
        let mut attr = self.attr(key, std::ptr::from_ref(value) as u64, 0);
        // SAFETY: key and value have the map's sizes (invariant); the kernel only reads both.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
    }

    /// Adds if absent; false if it was there.
    pub(crate) fn add(&self, key: &K, value: &V) -> io::Result<bool> {
        const NOEXIST: u64 = 1;
        let mut attr = self.attr(key, std::ptr::from_ref(value) as u64, NOEXIST);
        // SAFETY: key and value have the map's sizes (invariant); the kernel only reads both.
        match unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Replaces if present; false if it was not there.
    pub(crate) fn replace(&self, key: &K, value: &V) -> io::Result<bool> {
        const EXIST: u64 = 2;
        let mut attr = self.attr(key, std::ptr::from_ref(value) as u64, EXIST);
        // SAFETY: key and value have the map's sizes (invariant); the kernel only reads both.
        match unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes; false if it was not there.
    pub(crate) fn delete(&self, key: &K) -> io::Result<bool> {
        let mut attr = self.attr(key, 0, 0);
        // SAFETY: the key has the map's size (invariant); the kernel only reads it.
        match unsafe { bpf(MAP_DELETE_ELEM, &mut attr) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl<K: FromBytes + IntoBytes, V: FromBytes + IntoBytes> MapFd<K, V> {
    /// Every element, in batches. What is added or removed meanwhile may or may not be seen.
    pub(crate) fn elements(&self) -> Elements<'_, K, V> {
        Elements { map: self, cursor: None, batch: Vec::new().into_iter(), done: false }
    }
}

/// See [`MapFd::elements`].
#[derive(Debug)]
pub(crate) struct Elements<'a, K, V> {
    map: &'a MapFd<K, V>,
    /// Opaque to us: a bucket number, or a key.
    cursor: Option<Vec<u8>>,
    batch: std::vec::IntoIter<(K, V)>,
    done: bool,
}

impl<K: FromBytes + IntoBytes, V: FromBytes + IntoBytes> Elements<'_, K, V> {
    fn fill(&mut self) -> io::Result<()> {
        let mut keys: Vec<K> = std::iter::repeat_with(K::new_zeroed).take(BATCH).collect();
        let mut values: Vec<V> = std::iter::repeat_with(V::new_zeroed).take(BATCH).collect();
        let mut next = vec![0u8; size_of::<K>().max(4)];
        let mut attr = BatchAttr {
            in_batch: self.cursor.as_ref().map_or(0, |cursor| cursor.as_ptr() as u64),
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: BATCH as u32,
            map_fd: self.map.fd.as_raw_fd().cast_unsigned(),
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: both arrays hold `count` elements of the map's sizes (invariant), any bytes are a `K` and
        // a `V`, and a cursor needs at most the size of a key or 4 bytes.
        match unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) } {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.done = true,
            Err(error) => return Err(error),
        }
        self.cursor = Some(next);
        keys.truncate(attr.count as usize);
        self.batch = keys.into_iter().zip(values).collect::<Vec<_>>().into_iter();
        Ok(())
    }
}

impl<K: FromBytes + IntoBytes, V: FromBytes + IntoBytes> Iterator for Elements<'_, K, V> {
    type Item = io::Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(element) = self.batch.next() {
                return Some(Ok(element));
            }
            if self.done {
                return None;
            }
            if let Err(error) = self.fill() {
                self.done = true;
                return Some(Err(error));
            }
        }
    }
}

/// The values that a per-CPU map holds for a key, one per possible CPU.
impl<K: IntoBytes, V: FromBytes + IntoBytes> MapFd<K, V> {
    pub(crate) fn get_per_cpu(&self, key: &K, cpus: usize) -> io::Result<Option<Vec<V>>> {
        const { assert!(size_of::<V>().is_multiple_of(8), "the kernel rounds each CPU's value up to 8 bytes") };
        let mut values: Vec<V> = std::iter::repeat_with(V::new_zeroed).take(cpus).collect();
        let mut attr = self.attr(key, values.as_mut_ptr() as u64, 0);
        // SAFETY: one value of the map's size per possible CPU, which is what the kernel writes.
        match unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) } {
            Ok(_) => Ok(Some(values)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds zeroes for every CPU if the key is absent.
    pub(crate) fn add_per_cpu(&self, key: &K, cpus: usize) -> io::Result<()> {
        const { assert!(size_of::<V>().is_multiple_of(8), "the kernel rounds each CPU's value up to 8 bytes") };
        const NOEXIST: u64 = 1;
        let values: Vec<V> = std::iter::repeat_with(V::new_zeroed).take(cpus).collect();
        let mut attr = self.attr(key, values.as_ptr() as u64, NOEXIST);
        // SAFETY: as above; the kernel only reads.
        match unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) } {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(error),
            _ => Ok(()),
        }
    }
}

impl MapFd<u32, u64> {
    /// Of a per-CPU array: the sum over the CPUs of each of its first `len` elements.
    pub(crate) fn sums(&self, len: u32, cpus: usize) -> io::Result<Vec<u64>> {
        let mut keys = vec![0u32; len as usize];
        let mut values = vec![0u64; len as usize * cpus];
        let mut next = 0u32;
        let mut attr = BatchAttr {
            in_batch: 0,
            out_batch: std::ptr::from_mut(&mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: len,
            map_fd: self.fd.as_raw_fd().cast_unsigned(),
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the keys have room for `len`, the values for one per key and possible CPU.
        match unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) } {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {}
        }
        Ok(values.chunks_exact(cpus).map(|cpus| cpus.iter().copied().fold(0, u64::wrapping_add)).collect())
    }
}

/// Possible CPUs, which is how many values a per-CPU element has.
pub(crate) fn possible_cpus() -> io::Result<usize> {
    aya::util::nr_cpus().map_err(|(_, error)| error)
}
