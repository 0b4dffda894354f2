//! All GPUs that this process sees, driven from one thread through the driver and NCCL. Only called where
//! [`super::library::ready`] found both libraries with all that is called here: what binds them answers what is
//! missing with a panic.
//!
//! Memory is asked for with `cuMemAlloc`, not from a pool: with all ranks in one process NCCL reads and writes the
//! buffers of other GPUs directly, and those of a pool are closed to them.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::driver::result::{self as cuda, DriverError};
use cudarc::driver::{CudaContext, CudaStream, sys as cuda_sys};
use cudarc::nccl::sys as nccl;

use super::library;
use super::watch::{Progress, Stage};
use super::{Device, Fault, Gpus, Kind};
use crate::parse::clean;

/// How often it is looked whether NCCL has come to grief in what it does on its own.
const LOOK: Duration = Duration::from_millis(200);
/// What takes longer than this is not waited for on a core of its own.
const SPIN: Duration = Duration::from_millis(20);

/// One GPU.
struct One {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    buffer: cuda_sys::CUdeviceptr,
    room: usize,
}

/// The real ones. They are left to the end of the process.
pub(super) struct Real {
    all: Vec<One>,
    comms: Vec<nccl::ncclComm_t>,
    here: Progress,
}

/// `CUDA: out of memory (CUDA_ERROR_OUT_OF_MEMORY)`.
fn driver(e: DriverError) -> String {
    match e.error_string() {
        Ok(text) => format!("CUDA: {} ({:?})", text.to_string_lossy(), e.0),
        Err(_) => format!("CUDA: {:?}", e.0),
    }
}

fn anybody(e: DriverError) -> Fault {
    Fault {
        rank: None,
        error: driver(e),
    }
}

/// NCCL's own words, the last of its warnings with them where it keeps that.
#[expect(unsafe_code, reason = "calls into NCCL")]
fn words(code: nccl::ncclResult_t) -> String {
    // SAFETY: a text that lives as long as the library.
    let text = unsafe { said(nccl::ncclGetErrorString(code)) };
    let mut words = format!("NCCL: {} ({code:?})", text.unwrap_or_default());
    if library::has_last_error() {
        // SAFETY: it takes no communicator for any; the text is copied before the next call.
        let last = unsafe { said(nccl::ncclGetLastError(null_mut())) };
        if let Some(last) = last {
            words += &format!("; last warning: {last}");
        }
    }
    words
}

/// A text of C in one line, if there is any.
#[expect(unsafe_code, reason = "reads a text of C")]
unsafe fn said(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: it ends with a zero, by contract of who made it.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let words: Vec<&str> = text.split_whitespace().collect();
    Some(clean(words.join(" ").as_bytes())).filter(|t| !t.is_empty())
}

/// Whoever did not succeed has failed: newer versions know results that this one does not.
fn well(code: nccl::ncclResult_t) -> Result<(), String> {
    match code {
        nccl::ncclResult_t::ncclSuccess => Ok(()),
        other => Err(words(other)),
    }
}

impl Real {
    /// All GPUs of this process, each with a stream of its own.
    #[expect(
        unsafe_code,
        reason = "one stream a GPU needs no events between streams"
    )]
    pub(super) fn open(here: &Progress) -> Result<Self, Fault> {
        here.begin(Stage::Gpus, "cuInit");
        let count = CudaContext::device_count().map_err(anybody)?;
        let count = usize::try_from(count).unwrap_or(0);
        if count == 0 {
            return Err(Fault {
                rank: None,
                error: "CUDA sees no GPU here".into(),
            });
        }
        let mut all = Vec::new();
        for ordinal in 0..count {
            here.reached(&format!("the context of GPU {ordinal}"));
            let of = |e| Fault::of(ordinal, driver(e));
            let context = CudaContext::new(ordinal).map_err(of)?;
            // SAFETY: all that is done on a GPU is done on its one stream, in order.
            unsafe { context.disable_event_tracking() };
            let stream = context.new_stream().map_err(of)?;
            all.push(One {
                context,
                stream,
                buffer: 0,
                room: 0,
            });
        }
        Ok(Self {
            all,
            comms: Vec::new(),
            here: here.clone(),
        })
    }

    /// The stream of a rank, and where its bytes from `at` on lie.
    fn part(
        &self,
        rank: usize,
        at: usize,
        long: usize,
    ) -> Result<(&One, cuda_sys::CUdeviceptr), Fault> {
        let beyond = || Fault::of(rank, "beyond the buffer".into());
        let one = self.all.get(rank).ok_or_else(beyond)?;
        let end = at.checked_add(long).filter(|end| *end <= one.room);
        let offset = end.and_then(|_| u64::try_from(at).ok());
        let place = offset.and_then(|at| one.buffer.checked_add(at));
        let place = place.ok_or_else(beyond)?;
        let bound = one.context.bind_to_thread();
        bound.map_err(|e| Fault::of(rank, driver(e)))?;
        Ok((one, place))
    }

    /// What NCCL did on its own, in threads and on the network, and did not bring to an end.
    #[expect(unsafe_code, reason = "calls into NCCL")]
    fn later(&self) -> Result<(), Fault> {
        for (rank, comm) in self.comms.iter().enumerate() {
            let mut code = nccl::ncclResult_t::ncclSuccess;
            // SAFETY: a communicator that lives as long as the process.
            let asked = unsafe { nccl::ncclCommGetAsyncError(*comm, &mut code) };
            well(asked).map_err(|e| Fault::of(rank, e))?;
            if code != nccl::ncclResult_t::ncclInProgress {
                well(code).map_err(|e| Fault::of(rank, e))?;
            }
        }
        Ok(())
    }

    /// Waits for all streams; seconds from `since` until each was done.
    #[expect(unsafe_code, reason = "asks the driver for a stream")]
    fn wait(&self, since: Instant) -> Result<Vec<f64>, Fault> {
        let mut took: Vec<Option<f64>> = vec![None; self.all.len()];
        let mut looked = since;
        loop {
            for ((rank, one), took) in self.all.iter().enumerate().zip(&mut took) {
                if took.is_some() {
                    continue;
                }
                let bound = one.context.bind_to_thread();
                bound.map_err(|e| Fault::of(rank, driver(e)))?;
                // SAFETY: the stream lives as long as the process.
                match unsafe { cuda_sys::cuStreamQuery(one.stream.cu_stream()) }.result() {
                    Ok(()) => *took = Some(since.elapsed().as_secs_f64()),
                    Err(DriverError(cuda_sys::CUresult::CUDA_ERROR_NOT_READY)) => {}
                    Err(e) => return Err(Fault::of(rank, driver(e))),
                }
            }
            let open = |(rank, took): (usize, &Option<f64>)| took.is_none().then_some(rank);
            let left: Vec<usize> = took.iter().enumerate().filter_map(open).collect();
            if left.is_empty() {
                return Ok(took.into_iter().flatten().collect());
            }
            if looked.elapsed() >= LOOK {
                self.later()?;
                self.here.waits_for(left);
                looked = Instant::now();
            }
            if since.elapsed() > SPIN {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }
}

#[expect(unsafe_code, reason = "calls into CUDA and NCCL")]
impl Gpus for Real {
    fn devices(&self) -> Result<Vec<Device>, Fault> {
        let facts = self.all.iter().enumerate().map(|(rank, one)| {
            let of = |e| Fault::of(rank, driver(e));
            let (free, total) = one.context.mem_get_info().map_err(of)?;
            let bytes = |n| u64::try_from(n).unwrap_or(0);
            Ok(Device {
                name: one.context.name().map_err(of)?,
                free: bytes(free),
                total: bytes(total),
            })
        });
        facts.collect()
    }

    fn join(&mut self) -> Result<u32, Fault> {
        let anybody = |error| Fault { rank: None, error };
        let ranks = i32::try_from(self.all.len()).unwrap_or(i32::MAX);
        let ordinals: Vec<i32> = (0..ranks).collect();
        let mut version = 0;
        // SAFETY: a number to write to.
        well(unsafe { nccl::ncclGetVersion(&mut version) }).map_err(anybody)?;
        self.comms = vec![null_mut(); self.all.len()];
        // SAFETY: as many places as there are ordinals, and those are of GPUs that were opened.
        let joined =
            unsafe { nccl::ncclCommInitAll(self.comms.as_mut_ptr(), ranks, ordinals.as_ptr()) };
        well(joined).map_err(anybody)?;
        Ok(u32::try_from(version).unwrap_or(0))
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), Fault> {
        for (rank, one) in self.all.iter_mut().enumerate() {
            let of = |e| {
                let error = format!("{}: {bytes} B were asked for", driver(e));
                Fault::of(rank, error)
            };
            one.context.bind_to_thread().map_err(of)?;
            // SAFETY: nothing is read before it is written.
            one.buffer = unsafe { cuda::malloc_sync(bytes) }.map_err(of)?;
            one.room = bytes;
        }
        Ok(())
    }

    fn write(&mut self, rank: usize, at: usize, bytes: &[u8]) -> Result<(), Fault> {
        let (one, place) = self.part(rank, at, bytes.len())?;
        // SAFETY: the part is inside the buffer, and our memory is there until it was read.
        unsafe { cuda::memcpy_htod_async(place, bytes, one.stream.cu_stream()) }
            .map_err(|e| Fault::of(rank, driver(e)))?;
        self.wait(Instant::now()).map(drop)
    }

    fn read(&mut self, rank: usize, at: usize, bytes: &mut [u8]) -> Result<(), Fault> {
        let (one, place) = self.part(rank, at, bytes.len())?;
        // SAFETY: the part is inside the buffer, and our memory is there until it was written.
        unsafe { cuda::memcpy_dtoh_async(bytes, place, one.stream.cu_stream()) }
            .map_err(|e| Fault::of(rank, driver(e)))?;
        self.wait(Instant::now()).map(drop)
    }

    fn zero(&mut self, bytes: usize) -> Result<(), Fault> {
        for rank in 0..self.all.len() {
            let (one, place) = self.part(rank, 0, bytes)?;
            // SAFETY: the part is inside the buffer.
            unsafe { cuda::memset_d8_async(place, 0, bytes, one.stream.cu_stream()) }
                .map_err(|e| Fault::of(rank, driver(e)))?;
        }
        Ok(())
    }

    fn reduce(&mut self, kind: Kind, count: usize, times: u32) -> Result<Vec<f64>, Fault> {
        let parts: Result<Vec<_>, Fault> = (0..self.all.len())
            .map(|rank| self.part(rank, 0, count.saturating_mul(kind.size())))
            .collect();
        let parts = parts?;
        let kind = match kind {
            Kind::Float32 => nccl::ncclDataType_t::ncclFloat32,
            Kind::Bfloat16 => nccl::ncclDataType_t::ncclBfloat16,
        };
        self.wait(Instant::now())?;
        let since = Instant::now();
        for _ in 0..times {
            // SAFETY: the buffers hold so many elements and live as long as the process.
            unsafe {
                let anybody = |error| Fault { rank: None, error };
                well(nccl::ncclGroupStart()).map_err(anybody)?;
                for (rank, ((one, place), comm)) in parts.iter().zip(&self.comms).enumerate() {
                    let buffer = *place as *mut c_void;
                    let stream = one.stream.cu_stream().cast();
                    let sum = nccl::ncclRedOp_t::ncclSum;
                    let code = nccl::ncclAllReduce(buffer, buffer, count, kind, sum, *comm, stream);
                    well(code).map_err(|e| Fault::of(rank, e))?;
                }
                let ended = well(nccl::ncclGroupEnd());
                // Which rank it was, where one says so.
                if let Err(error) = ended {
                    self.later()?;
                    return Err(anybody(error));
                }
            }
        }
        self.wait(since)
    }
}
