//! From a module to code that loads: the cache, NVRTC, and what to try next.

use super::cache::{Cache, Key};
use super::compile::{Arch, Compiled, Kind, Request};
use super::error::Error;
use super::module::{KernelId, Module};
use super::nvrtc::Nvrtc;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Code to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// What it is.
    pub kind: Kind,
    /// The kernels in it.
    pub part: &'a [KernelId],
    /// A cubin, or PTX that ends in a zero byte.
    pub bytes: &'a [u8],
}

/// The compiled form of a module, from the cache or by NVRTC.
///
/// # Errors
/// Where there is no NVRTC, or the text does not compile.
pub fn compile(module: &Module, arch: Arch, kind: Kind) -> Result<Compiled, Error> {
    let nvrtc = Nvrtc::find()?;
    let request = Request { module, arch, kind, part: None };
    Cache::shared().get_or(Key::of(&request, nvrtc.version()), || Ok(nvrtc.compile(&request)?))
}

/// What `load` makes of the first form of a module that it accepts: machine code, or else PTX, one image for each of the
/// [`parts`](Module::parts), which are compiled at a time. What came from the cache and is not accepted is forgotten, and made anew once.
///
/// # Errors
/// Where nothing can be compiled, or the last form is not accepted either.
pub fn first_that_loads<T>(
    module: &Module,
    arch: Arch,
    mut load: impl FnMut(&[Image<'_>]) -> Result<T, Error>,
) -> Result<T, Error> {
    let nvrtc = Nvrtc::find()?;
    let mut forms = Vec::new();
    if nvrtc.known().contains(&arch.number) {
        forms.push((arch, Kind::Cubin));
    }
    // a processor that is newer than NVRTC runs what is made for an older one
    if let Some(number) = nvrtc.known().iter().copied().filter(|n| *n <= arch.number).max() {
        forms.push((Arch { number, suffix: None }, Kind::Ptx));
    }
    let parts = module.parts();
    let cache = Cache::shared();
    let mut last = None;
    for (arch, kind) in forms {
        let requests = parts.iter().map(|part| Request { module, arch, kind, part: Some(part) });
        let requests: Vec<(Request<'_>, Key)> = requests.map(|r| (r, Key::of(&r, nvrtc.version()))).collect();
        // the second time nothing comes from the cache
        for _ in 0..2 {
            let made = each(&requests, |(request, key)| cache.get_or(*key, || nvrtc.compile(request)));
            let made = made.into_iter().collect::<Result<Vec<_>, _>>()?;
            let images: Vec<_> =
                parts.iter().zip(&made).map(|(part, m)| Image { kind, part, bytes: &m.image }).collect();
            match load(&images) {
                Ok(loaded) => return Ok(loaded),
                Err(e) => {
                    requests.iter().for_each(|(_, key)| cache.remove(*key));
                    last = Some(e);
                }
            }
            if made.iter().all(|m| m.took.is_some()) {
                break;
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        let version = nvrtc.version();
        Error::missing(
            format!("NVRTC {}.{} makes no code for {arch}", version.0, version.1),
            "`jetc doctor --install-nvrtc` fetches a newer one",
        )
    }))
}

/// `work` of each, several at a time, in order. By threads of its own: one of the pool's that waits takes up other work meanwhile, which
/// may want a lock that its caller holds.
fn each<A: Sync, R: Send>(all: &[A], work: impl Fn(&A) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(all.len());
    let left = Mutex::new(all.iter().enumerate());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let some = || std::iter::from_fn(next).map(|(k, a)| (k, work(a))).collect::<Vec<_>>();
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    done.sort_by_key(|(k, _)| *k);
    done.into_iter().map(|(_, r)| r).collect()
}
