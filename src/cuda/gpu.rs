//! A module on a GPU: one context, a stream for each lane of its launches; a call is the replay of a CUDA graph.
//!
//! The first call launches kernel by kernel and waits after each, so that an error names its kernel; later calls replay the
//! captured launches, many calls at a time where so many are wanted. What `lanes` lets run beside each other does so there.

use super::compile::{Arch, OLDEST};
use super::device::DeviceInfo;
use super::driver::{devices, failed};
use super::error::Error;
use super::lanes::Lanes;
use super::load::{self, Image};
use super::module::{Bound, BufferId, KernelId, Module, Role};
use super::runner::{Runner, bytes, check_length};
use cudarc::driver::sys::CUfunction_attribute_enum::{
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as MOST_SHARED, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES as OWN_SHARED,
};
use cudarc::driver::{DriverError, result, sys};
use std::ffi::{CString, c_void};
use std::sync::Arc;

/// Calls of one graph, where a call has few launches.
const REPEAT: u64 = 16;
/// Launches of one graph, at most.
const LAUNCHES: usize = 512;
/// Shared memory of a block that needs no asking.
const ASKED_ABOVE: u64 = 48 << 10;

/// A device that is in use.
#[derive(Debug)]
pub struct Gpu {
    info: DeviceInfo,
    device: sys::CUdevice,
    context: sys::CUcontext,
}

// SAFETY: the driver's functions may be called from any thread; a context is made current before each use.
unsafe impl Send for Gpu {}
// SAFETY: likewise, and nothing here is changed after it is made.
unsafe impl Sync for Gpu {}

impl Gpu {
    /// Device number `ordinal`.
    ///
    /// # Errors
    /// Where there is no driver, or no such device.
    pub fn open(ordinal: u32) -> Result<Arc<Gpu>, Error> {
        let all = devices()?;
        let Some(info) = all.get(ordinal as usize).cloned() else {
            let known = format!(
                "the driver has {} device{}, numbered from 0",
                all.len(),
                if all.len() == 1 { "" } else { "s" }
            );
            return Err(Error::missing(format!("there is no device cuda:{ordinal}"), known));
        };
        if info.arch.number < OLDEST {
            let what = format!("cuda:{ordinal} ({}) is of architecture {}", info.name, info.arch);
            return Err(Error::missing(what, format!("kernels need sm_{OLDEST} or newer: use --device cpu")));
        }
        let trouble = failed(&format!("using cuda:{ordinal} ({})", info.name));
        let device = result::device::get(ordinal as i32).map_err(&trouble)?;
        // SAFETY: the device is one that the driver gave; the context is released in `drop`.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(&trouble)?;
        Ok(Arc::new(Gpu { info, device, context }))
    }

    /// What it is.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// What its code is compiled for.
    pub fn arch(&self) -> Arch {
        self.info.arch
    }

    /// Bytes of memory that are free, and all.
    ///
    /// # Errors
    /// Where the driver fails.
    pub fn memory(&self) -> Result<(u64, u64), Error> {
        self.current()?;
        let (free, total) = result::mem_get_info().map_err(failed("asking for free memory"))?;
        Ok((free as u64, total as u64))
    }

    fn current(&self) -> Result<(), Error> {
        // SAFETY: the context lives as long as `self`.
        unsafe { result::ctx::set_current(self.context) }.map_err(failed("making the context current"))
    }

    /// Compiles (or takes from the cache) and loads a module, with memory for so many points.
    ///
    /// # Errors
    /// Where it does not compile, does not fit, or the driver refuses it.
    pub fn load(self: &Arc<Self>, module: &Module, count: u32) -> Result<Box<dyn Runner>, Error> {
        self.current()?;
        let (free, total) = self.memory()?;
        let needed = module.bytes(count);
        if needed > free {
            return Err(Error::Memory { module: module.name.clone(), count, needed, free, total });
        }
        let code = load::first_that_loads(module, self.arch(), |images| Code::new(self, module, images))?;
        code.allow_shared(module)?;
        let stream = Stream::new(self)?;
        let lanes = Lanes::of(module);
        let beside = Beside::new(self, &lanes)?;
        let bound = module.bind(count);
        let mut loaded = Loaded {
            buffers: vec![],
            graphs: vec![],
            is_checked: false,
            lanes,
            beside,
            module: module.clone(),
            bound,
            code,
            stream,
            gpu: self.clone(),
        };
        loaded.allocate()?;
        Ok(Box::new(loaded))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: it was retained once by `open`; all that lives in it holds an `Arc` of `self`.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// A module with memory on a GPU.
#[derive(Debug)]
struct Loaded {
    // in the order in which they are dropped
    graphs: Vec<Graph>,
    buffers: Vec<Memory>,
    stream: Stream,
    beside: Beside,
    code: Code,
    /// The launches of a call.
    lanes: Lanes,
    module: Module,
    bound: Bound,
    gpu: Arc<Gpu>,
    /// Every kernel of a call has run once, alone.
    is_checked: bool,
}

// SAFETY: handles of the driver may be used from any thread, one at a time, once the context is current there.
unsafe impl Send for Loaded {}

impl Loaded {
    fn allocate(&mut self) -> Result<(), Error> {
        for k in 0..self.module.buffers.len() {
            let id = BufferId(k as u32);
            let length = bytes(&self.module, &self.bound, id) as usize;
            let trouble = failed(&format!("allocating {length} bytes for `{}`", self.module.buffers[k].name));
            // an allocation of nothing is an error to the driver
            // SAFETY: the context is current; the memory is freed by `Memory`.
            let address = unsafe { result::malloc_sync(length.max(16)) }.map_err(&trouble)?;
            self.buffers.push(Memory { gpu: self.gpu.clone(), address });
            if self.module.buffers[k].role == Role::Constant {
                let contents: Vec<u8> = self.module.buffers[k].contents.iter().flat_map(|w| w.to_ne_bytes()).collect();
                self.upload(id, &contents)?;
            } else {
                // SAFETY: so many bytes were allocated.
                unsafe { result::memset_d8_async(address, 0, length, self.stream.handle) }.map_err(&trouble)?;
            }
        }
        self.wait("clearing memory")
    }

    fn wait(&self, what: &str) -> Result<(), Error> {
        // SAFETY: the stream lives.
        unsafe { result::stream::synchronize(self.stream.handle) }.map_err(failed(what))
    }

    fn launch(&self, kernel: KernelId, stream: &Stream) -> Result<(), Error> {
        let k = &self.module.kernels[kernel.index()];
        let blocks = self.bound.blocks[kernel.index()];
        let mut addresses: Vec<sys::CUdeviceptr> =
            k.arguments.iter().map(|b| self.buffers[b.index()].address).collect();
        let mut count = self.bound.counts[kernel.index()];
        let mut arguments: Vec<*mut c_void> = addresses.iter_mut().map(|a| (&raw mut *a).cast()).collect();
        arguments.push((&raw mut count).cast());
        let function = self.code.functions[kernel.index()];
        // SAFETY: the arguments are those of the kernel by the contract of `Module`: pointers to buffers of the lengths that it
        // reckons with, and the number of points. They are copied before the call returns.
        let done = unsafe {
            result::launch_kernel(function, (blocks, 1, 1), (k.threads, 1, 1), k.shared, stream.handle, &mut arguments)
        };
        done.map_err(failed(&self.described(kernel)))
    }

    fn described(&self, kernel: KernelId) -> String {
        let k = &self.module.kernels[kernel.index()];
        format!(
            "kernel `{}` of `{}` on cuda:{} ({} blocks of {} threads, {} bytes of shared memory, {} points)",
            k.name,
            self.module.name,
            self.gpu.info.ordinal,
            self.bound.blocks[kernel.index()],
            k.threads,
            k.shared,
            self.bound.counts[kernel.index()]
        )
    }

    fn one_by_one(&self, kernels: &[KernelId]) -> Result<(), Error> {
        for k in kernels {
            self.launch(*k, &self.stream)?;
            self.wait(&self.described(*k))?;
        }
        Ok(())
    }

    /// The launches of a call, on their lanes.
    fn launch_all(&self, what: &str) -> Result<(), Error> {
        let Beside { streams, begin, over } = &self.beside;
        let lane = |k: usize| if k == 0 { &self.stream } else { &streams[k - 1] };
        if let Some(begin) = begin {
            begin.record(&self.stream).map_err(failed(what))?;
        }
        for (launch, over_now) in self.lanes.launches.iter().zip(over) {
            let stream = lane(launch.lane);
            let awaited = launch.after.iter().map(|k| &over[*k]).chain(launch.begins.then_some(begin));
            awaited.flatten().try_for_each(|event| event.hold(stream)).map_err(failed(what))?;
            self.launch(launch.kernel, stream)?;
            if let Some(event) = over_now {
                event.record(stream).map_err(failed(what))?;
            }
        }
        let mut ends = self.lanes.ends.iter().filter_map(|k| over[*k].as_ref());
        ends.try_for_each(|event| event.hold(&self.stream)).map_err(failed(what))
    }

    /// A graph of so many calls.
    fn capture(&self, calls: u64) -> Result<Graph, Error> {
        let what = format!("capturing the launches of `{}`", self.module.name);
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives, and captures nothing now.
        unsafe { result::stream::begin_capture(self.stream.handle, mode) }.map_err(failed(&what))?;
        let launched = (0..calls).try_for_each(|_| self.launch_all(&what));
        // SAFETY: the capture was begun above; it ends whatever the launches did.
        let graph = unsafe { result::stream::end_capture(self.stream.handle) }.map(Captured);
        launched?;
        let graph = graph.map_err(failed(&what))?;
        // SAFETY: the graph was just made; its executable form does not need it any more.
        let ready = unsafe { result::graph::instantiate(graph.0, sys::CUgraphInstantiate_flags(0)) };
        Ok(Graph { gpu: self.gpu.clone(), handle: ready.map_err(failed(&what))?, calls })
    }
}

impl Runner for Loaded {
    fn module(&self) -> &Module {
        &self.module
    }

    fn bound(&self) -> &Bound {
        &self.bound
    }

    fn device(&self) -> String {
        format!("cuda:{} ({})", self.gpu.info.ordinal, self.gpu.info.name)
    }

    fn upload(&mut self, buffer: BufferId, from: &[u8]) -> Result<(), Error> {
        check_length(&self.module, &self.bound, buffer, from.len())?;
        self.gpu.current()?;
        let what = format!("writing `{}`", self.module.buffers[buffer.index()].name);
        let to = self.buffers[buffer.index()].address;
        // SAFETY: so many bytes were allocated, and `from` lives until the copy is over.
        unsafe { result::memcpy_htod_async(to, from, self.stream.handle) }.map_err(failed(&what))?;
        self.wait(&what)
    }

    fn download(&mut self, buffer: BufferId, to: &mut [u8]) -> Result<(), Error> {
        check_length(&self.module, &self.bound, buffer, to.len())?;
        self.gpu.current()?;
        let what = format!("reading `{}`", self.module.buffers[buffer.index()].name);
        let from = self.buffers[buffer.index()].address;
        // SAFETY: likewise.
        unsafe { result::memcpy_dtoh_async(to, from, self.stream.handle) }.map_err(failed(&what))?;
        self.wait(&what)
    }

    fn start(&mut self) -> Result<(), Error> {
        self.gpu.current()?;
        self.one_by_one(&self.module.start)
    }

    fn call(&mut self, times: u64) -> Result<(), Error> {
        self.gpu.current()?;
        let mut left = times;
        if left > 0 && !self.is_checked {
            self.one_by_one(&self.module.launches)?;
            self.is_checked = true;
            left -= 1;
        }
        if left > 0 && self.graphs.is_empty() {
            if self.module.launches.len() * REPEAT as usize <= LAUNCHES {
                self.graphs.push(self.capture(REPEAT)?);
            }
            self.graphs.push(self.capture(1)?);
        }
        let what = format!("replaying the launches of `{}` on {}", self.module.name, self.device());
        for graph in &self.graphs {
            while left >= graph.calls {
                // SAFETY: graph and stream live.
                unsafe { result::graph::launch(graph.handle, self.stream.handle) }.map_err(failed(&what))?;
                left -= graph.calls;
            }
        }
        self.wait(&what)
    }
}

/// The loaded code of a module.
#[derive(Debug)]
struct Code {
    gpu: Arc<Gpu>,
    /// By image.
    handles: Vec<sys::CUmodule>,
    /// By kernel.
    functions: Vec<sys::CUfunction>,
}

impl Code {
    /// Of images that have all kernels between them, each once.
    fn new(gpu: &Arc<Gpu>, module: &Module, images: &[Image<'_>]) -> Result<Self, Error> {
        let mut code =
            Code { gpu: gpu.clone(), handles: vec![], functions: vec![std::ptr::null_mut(); module.kernels.len()] };
        for image in images {
            let what = format!("loading the kernels of `{}` ({})", module.name, image.kind.name());
            // SAFETY: an image that NVRTC made: it tells its own length, or ends in a zero byte.
            let handle = unsafe { result::module::load_data(image.bytes.as_ptr().cast()) }.map_err(failed(&what))?;
            code.handles.push(handle);
            for id in image.part {
                let k = &module.kernels[id.index()];
                let trouble = failed(&format!("kernel `{}` of `{}`", k.name, module.name));
                let name = CString::new(k.name.as_str()).unwrap_or_default();
                // SAFETY: the module was loaded above, and is unloaded after its functions.
                code.functions[id.index()] = unsafe { result::module::get_function(handle, name) }.map_err(&trouble)?;
            }
        }
        Ok(code)
    }

    /// Lets each kernel have its shared memory. What it declares itself counts too, towards what a block may have and towards what
    /// needs no asking.
    fn allow_shared(&self, module: &Module) -> Result<(), Error> {
        for (k, function) in module.kernels.iter().zip(&self.functions) {
            let trouble = failed(&format!("kernel `{}` of `{}`", k.name, module.name));
            // SAFETY: a function of the module, which is loaded as long as `self` is there.
            let own = unsafe { result::function::get_function_attribute(*function, OWN_SHARED) }.map_err(&trouble)?;
            let shared = u64::from(k.shared) + own as u64;
            if shared > self.gpu.info.shared {
                return Err(Error::Driver {
                    what: format!("kernel `{}` takes {shared} bytes of shared memory per block", k.name),
                    reason: format!("{} has {}", self.gpu.info.name, self.gpu.info.shared),
                });
            }
            if shared > ASKED_ABOVE {
                // SAFETY: likewise.
                unsafe { result::function::set_function_attribute(*function, MOST_SHARED, k.shared as i32) }
                    .map_err(&trouble)?;
            }
        }
        Ok(())
    }
}

/// Device memory.
#[derive(Debug)]
struct Memory {
    gpu: Arc<Gpu>,
    address: sys::CUdeviceptr,
}

#[derive(Debug)]
struct Stream {
    gpu: Arc<Gpu>,
    handle: sys::CUstream,
}

impl Stream {
    fn new(gpu: &Arc<Gpu>) -> Result<Self, Error> {
        // destroyed by `drop`
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        Ok(Stream { gpu: gpu.clone(), handle: stream.map_err(failed("making a stream"))? })
    }
}

/// What launches on more than one lane need.
#[derive(Debug)]
struct Beside {
    /// All lanes but the first.
    streams: Vec<Stream>,
    /// The begin of a call.
    begin: Option<Event>,
    /// The end of each launch that another lane waits for.
    over: Vec<Option<Event>>,
}

impl Beside {
    fn new(gpu: &Arc<Gpu>, lanes: &Lanes) -> Result<Self, Error> {
        let streams = (1..lanes.count).map(|_| Stream::new(gpu)).collect::<Result<Vec<_>, _>>()?;
        let event = |is_needed: bool| is_needed.then(|| Event::new(gpu)).transpose();
        let begin = event(lanes.count > 1)?;
        let over = (0..lanes.launches.len()).map(|k| event(lanes.is_awaited(k))).collect::<Result<_, _>>()?;
        Ok(Beside { streams, begin, over })
    }
}

#[derive(Debug)]
struct Event {
    gpu: Arc<Gpu>,
    handle: sys::CUevent,
}

impl Event {
    fn new(gpu: &Arc<Gpu>) -> Result<Self, Error> {
        // destroyed by `drop`
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING);
        Ok(Event { gpu: gpu.clone(), handle: event.map_err(failed("making an event"))? })
    }

    /// It has come when what the stream has got so far is over.
    fn record(&self, stream: &Stream) -> Result<(), DriverError> {
        // SAFETY: both live.
        unsafe { result::event::record(self.handle, stream.handle) }
    }

    /// What the stream gets from now on waits for it.
    fn hold(&self, stream: &Stream) -> Result<(), DriverError> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: both live.
        unsafe { result::stream::wait_event(stream.handle, self.handle, flags) }
    }
}

/// What was captured: the form of a graph from which others are made.
struct Captured(sys::CUgraph);

#[derive(Debug)]
struct Graph {
    gpu: Arc<Gpu>,
    handle: sys::CUgraphExec,
    /// How many calls it replays.
    calls: u64,
}

/// Frees in the context in which it was made. There is nobody to tell of a failure.
fn release(gpu: &Gpu, free: impl FnOnce() -> Result<(), DriverError>) {
    if gpu.current().is_ok() {
        let _ = free();
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        for handle in &self.handles {
            // SAFETY: its functions are not used any more. Likewise below: each is released once, by its owner.
            release(&self.gpu, || unsafe { result::module::unload(*handle) });
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: see above.
        release(&self.gpu, || unsafe { result::free_sync(self.address) });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: see above.
        release(&self.gpu, || unsafe { result::stream::destroy(self.handle) });
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: see above.
        release(&self.gpu, || unsafe { result::event::destroy(self.handle) });
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        // SAFETY: see above.
        let _ = unsafe { result::graph::destroy(self.0) };
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: see above.
        release(&self.gpu, || unsafe { result::graph::exec_destroy(self.handle) });
    }
}
