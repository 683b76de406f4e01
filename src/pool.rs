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

type Task = Box<dyn FnOnce() + Send>;

thread_local! {
    /// How many jobs this thread is in the middle of.
    static AT_WORK: Cell<u32> = const { Cell::new(0) };
    /// What is to be done by who has no job left in this thread's next loop.
    static LATER: Cell<Option<Task>> = const { Cell::new(None) };
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
    let later = Mutex::new(LATER.take());
    let take = |is_helper: bool| {
        let _here = AtWork::begin();
        while let Some(place) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let job = place.lock().ok().and_then(|mut place| place.0.take());
            let result = job.map(&work);
            if let Ok(mut place) = place.lock() {
                place.1 = result;
            }
            done.fetch_add(1, Ordering::Release);
        }
        if let (true, Ok(mut later)) = (is_helper, later.lock()) {
            // by this thread, most likely; who called waits for its jobs alone
            later.take().into_iter().for_each(rayon::spawn);
        }
    };
    rayon::scope(|scope| {
        (0..helpers).for_each(|_| scope.spawn(|_| take(true)));
        take(false);
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
pub use {ahead::Ahead, awake::in_pool};

#[cfg(feature = "compiler")]
mod ahead {
    use super::{LATER, PATIENCE};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::time::Instant;

    /// What will be needed, worked out meanwhile: by a thread that has no job left in the next loop ([`each`](super::each)) of the thread that
    /// asks, or else when it is needed.
    pub struct Ahead<R>(Arc<Shared<R>>);

    struct Shared<R> {
        /// Not begun yet.
        work: Mutex<Option<Box<dyn FnOnce() -> R + Send>>>,
        result: Mutex<Option<R>>,
    }

    impl<R: Send + 'static> Ahead<R> {
        /// Asks for it.
        pub fn begin(work: impl FnOnce() -> R + Send + 'static) -> Self {
            let ours = Arc::new(Shared { work: Mutex::new(Some(Box::new(work))), result: Mutex::default() });
            let theirs = ours.clone();
            LATER.set(Some(Box::new(move || {
                // held until it is there: who needs it meanwhile waits
                let mut result = locked(&theirs.result);
                let work = locked(&theirs.work).take();
                // who needs it does it again, and panics there
                *result = work.and_then(|work| catch_unwind(AssertUnwindSafe(work)).ok());
            })));
            Ahead(ours)
        }

        /// The result; worked out here, if nobody has begun. None where that has panicked.
        pub fn end(self) -> Option<R> {
            let work = locked(&self.0.work).take();
            if let Some(work) = work {
                return Some(work());
            }
            // not asleep when it is there
            let since = Instant::now();
            while self.0.result.try_lock().is_err() && since.elapsed() < PATIENCE {
                std::hint::spin_loop();
            }
            locked(&self.0.result).take()
        }
    }

    impl<R> Drop for Ahead<R> {
        /// What nobody has begun holds on to nothing any more.
        fn drop(&mut self) {
            locked(&self.0.work).take();
        }
    }

    fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(feature = "compiler")]
mod awake {
    use super::{AT_WORK, AtWork, PATIENCE};
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    /// Threads of a pool that are kept awake, at most: to wake more takes longer than it saves.
    const MOST_AWAKE: usize = 16;
    /// Threads that are asked to look for work and have not heard it yet.
    static ASKED: AtomicUsize = AtomicUsize::new(0);

    thread_local! {
        /// Whether this thread looks for work, or does what it has found.
        static LOOKS: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs in the pool, and keeps its other threads awake. To enter the pool wakes a thread, and to leave it another: once, that is, and
    /// not for each loop.
    pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        if rayon::current_thread_index().is_some() {
            return work();
        }
        rayon::scope(|_| {
            let _here = AtWork::begin();
            keep_awake();
            work()
        })
    }

    /// Asks the threads of the pool to stay awake. Nobody waits for them: they may be at work for others, and for long.
    fn keep_awake() {
        let threads = rayon::current_num_threads();
        let is_asked = || ASKED.compare_exchange(0, threads, Ordering::AcqRel, Ordering::Relaxed).is_err();
        if threads == 1 || threads > MOST_AWAKE || is_asked() {
            return;
        }
        rayon::spawn_broadcast(|_| {
            ASKED.fetch_sub(1, Ordering::AcqRel);
            if AT_WORK.get() == 0 && !LOOKS.replace(true) {
                stay_awake();
                LOOKS.set(false);
            }
        });
    }

    /// Looks for work until there has been none for a while.
    fn stay_awake() {
        let mut since = Instant::now();
        while since.elapsed() < PATIENCE {
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
    fn what_was_asked_for_is_there() {
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let pause = |k: u64| std::thread::sleep(Duration::from_micros(k % 3 * 40));
            let slow = move |k: u64| (pause(k + 1), k).1;
            pool.install(|| {
                for k in 0..200 {
                    let next = Ahead::begin(move || slow(k));
                    each((0..k % 4).collect(), slow);
                    pause(k);
                    assert_eq!(next.end(), Some(k));
                }
                drop(Ahead::begin(move || slow(2)));
                // of the next loop, nobody wants it any more
                each((0..4).collect(), slow);
            });
        }
        let (first, second) = (Ahead::begin(|| 7), Ahead::begin(|| 8));
        assert_eq!((second.end(), first.end()), (Some(8), Some(7)));
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
