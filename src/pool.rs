//! How threads share work that takes less time than it takes to wake a thread.
//!
//! The threads are rayon's. A step of a small problem takes a few hundred microseconds, and a thread that has slept needs 30 to begin: so
//! threads stay awake between the parallel loops of a step, and who waits for the last job of a loop stays awake too.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a thread looks in vain before it may sleep.
const PATIENCE: Duration = Duration::from_micros(200);

thread_local! {
    /// How many jobs this thread is in the middle of.
    static AT_WORK: Cell<u32> = const { Cell::new(0) };
}

/// As long as it is there, its thread is at work: where it waits for others it does not stay awake for other work.
struct AtWork;

impl AtWork {
    fn begin() -> Self {
        AT_WORK.set(AT_WORK.get() + 1);
        AtWork
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.set(AT_WORK.get() - 1);
    }
}

/// Does something to each job, by as many threads as there are; results in the order of the jobs. Whoever is free takes the next.
pub fn each<J: Send, R: Send>(jobs: Vec<J>, work: impl Fn(J) -> R + Sync) -> Vec<R> {
    let count = jobs.len();
    let helpers = rayon::current_num_threads().min(count).saturating_sub(1);
    if helpers == 0 {
        return jobs.into_iter().map(work).collect();
    }
    let jobs: Vec<Mutex<(Option<J>, Option<R>)>> = jobs.into_iter().map(|job| Mutex::new((Some(job), None))).collect();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let take = || {
        let _here = AtWork::begin();
        while let Some(place) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let job = place.lock().ok().and_then(|mut place| place.0.take());
            let result = job.map(&work);
            if let Ok(mut place) = place.lock() {
                place.1 = result;
            }
            done.fetch_add(1, Ordering::Release);
        }
    };
    rayon::scope(|scope| {
        (0..helpers).for_each(|_| scope.spawn(|_| take()));
        take();
        // not asleep when the last one is done
        let since = Instant::now();
        while done.load(Ordering::Acquire) < count && since.elapsed() < PATIENCE {
            std::hint::spin_loop();
        }
    });
    // a job without a result has panicked, and so has the scope
    jobs.into_iter().filter_map(|place| place.into_inner().ok().and_then(|place| place.1)).collect()
}

/// For what trains.
#[cfg(feature = "compiler")]
pub use awake::in_pool;

#[cfg(feature = "compiler")]
mod awake {
    use super::{AT_WORK, AtWork, PATIENCE};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Instant;

    /// Threads of a pool that are kept awake, at most: to wake more takes longer than it saves.
    const MOST_AWAKE: usize = 16;
    /// Threads that look for work, or are asked to as soon as they are free.
    static LOOKING: AtomicUsize = AtomicUsize::new(0);

    /// Runs in the pool, and keeps its other threads awake. To enter the pool wakes a thread, and to leave it another: once, that is, and
    /// not for each loop.
    pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        if rayon::current_thread_index().is_some() {
            return work();
        }
        rayon::scope(|_| {
            let done = Arc::new(AtomicBool::new(false));
            let _here = AtWork::begin();
            keep_awake(&done);
            let result = work();
            done.store(true, Ordering::Release);
            result
        })
    }

    /// Asks the other threads of the pool to stay awake. Nobody waits for them: they may be at work for others, and for long.
    fn keep_awake(done: &Arc<AtomicBool>) {
        let (own, others) = (rayon::current_thread_index(), rayon::current_num_threads() - 1);
        let is_asked = || LOOKING.compare_exchange(0, others, Ordering::AcqRel, Ordering::Relaxed).is_err();
        if others == 0 || others >= MOST_AWAKE || is_asked() {
            return;
        }
        let done = done.clone();
        rayon::spawn_broadcast(move |thread| {
            if Some(thread.index()) != own {
                if AT_WORK.get() == 0 {
                    stay_awake(&done);
                }
                LOOKING.fetch_sub(1, Ordering::AcqRel);
            }
        });
    }

    /// Looks for work until all is done, or there has been none for a while.
    fn stay_awake(done: &AtomicBool) {
        let mut since = Instant::now();
        while !done.load(Ordering::Acquire) && since.elapsed() < PATIENCE {
            match rayon::yield_now() {
                Some(rayon::Yield::Executed) => since = Instant::now(),
                _ => std::hint::spin_loop(),
            }
        }
    }
}

#[cfg(all(test, feature = "compiler"))]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_whoever_works() {
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for count in [0, 1, 2, 7, 100] {
                let slow = |k: usize| {
                    std::thread::sleep(Duration::from_micros(if k.is_multiple_of(3) { 300 } else { 0 }));
                    k * k
                };
                // within each other, too
                let nested = |k: usize| each((0..k % 4).collect(), slow).into_iter().sum::<usize>() + k;
                let wanted: Vec<usize> = (0..count).map(|k| k + (0..k % 4).map(|i| i * i).sum::<usize>()).collect();
                assert_eq!(pool.install(|| each((0..count).collect(), nested)), wanted);
                assert_eq!(pool.install(|| in_pool(|| each((0..count).collect(), slow))).len(), count);
            }
        }
        let outside = in_pool(|| each((0..50).collect(), |k: u64| in_pool(|| k + 1)));
        assert_eq!(outside, (1..51).collect::<Vec<u64>>());
    }

    #[test]
    fn nobody_waits_for_a_thread_that_is_at_work_for_others() {
        if rayon::current_num_threads() == 1 {
            return;
        }
        let (free, until) = std::sync::mpsc::channel();
        rayon::spawn(move || until.recv().unwrap_or_default());
        for _ in 0..3 {
            assert_eq!(in_pool(|| each((0..9).collect(), |k: u32| 2 * k)).len(), 9);
        }
        free.send(()).unwrap();
    }

    #[test]
    #[should_panic(expected = "number 3")]
    fn a_panic_is_passed_on() {
        each((0..8).collect(), |k: u32| assert!(k != 3, "number {k}"));
    }
}
