//! How a loop over numbers is compiled for the processor that runs it.

#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

/// A piece of work with inner loops over numbers. `run` must be `#[inline(always)]`, and so what it calls.
pub trait Kernel {
    /// Does the work.
    fn run(self);
}

/// Runs a kernel as compiled for the widest vectors that this processor has.
pub fn dispatch<K: Kernel>(kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn wide<K: Kernel>(kernel: K) {
            kernel.run();
        }
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn narrow<K: Kernel>(kernel: K) {
            kernel.run();
        }
        // Sound: called where the processor has the features.
        static HERE: LazyLock<Vectors> = LazyLock::new(vectors);
        match *HERE {
            Vectors::Wide => return unsafe { wide(kernel) },
            Vectors::Narrow => return unsafe { narrow(kernel) },
            Vectors::Base => {}
        }
    }
    kernel.run();
}

/// What kernels are compiled for.
#[cfg(target_arch = "x86_64")]
enum Vectors {
    Wide,
    Narrow,
    Base,
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> Vectors {
    macro_rules! all {
        ($($feature:tt)*) => { true $(&& is_x86_feature_detected!($feature))* };
    }
    if !all!("avx2" "fma" "bmi1" "bmi2" "lzcnt" "popcnt") {
        Vectors::Base
    } else if all!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl") {
        Vectors::Wide
    } else {
        Vectors::Narrow
    }
}
