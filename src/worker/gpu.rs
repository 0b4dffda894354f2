//! All GPUs that this process sees, driven from one thread through the driver and NCCL. Only called where
//! [`super::library::ready`] found both libraries: what binds them answers a missing one with a panic.

use std::sync::Arc;
use std::time::Instant;

use cudarc::driver::{CudaContext, CudaSlice, CudaStream};
use cudarc::nccl::safe::{Comm, ReduceOp, group_end, group_start};

use super::Gpus;

/// One GPU.
struct One {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    buffer: Option<CudaSlice<f32>>,
}

/// The real ones.
pub(super) struct Real {
    all: Vec<One>,
    comms: Vec<Comm>,
}

fn driver(e: impl std::fmt::Display) -> String {
    format!("CUDA: {e}")
}

fn nccl(e: cudarc::nccl::result::NcclError) -> String {
    format!("NCCL: {e:?}")
}

impl Real {
    /// Joins all GPUs of this process in one communicator.
    pub(super) fn join() -> Result<Self, String> {
        let count = CudaContext::device_count().map_err(driver)?;
        if count < 1 {
            return Err("CUDA sees no GPU here".into());
        }
        let mut all = Vec::new();
        for ordinal in 0..usize::try_from(count).unwrap_or(0) {
            let context = CudaContext::new(ordinal).map_err(driver)?;
            let stream = context.new_stream().map_err(driver)?;
            all.push(One {
                context,
                stream,
                buffer: None,
            });
        }
        let streams = all.iter().map(|one| one.stream.clone()).collect();
        let comms = Comm::from_devices(streams).map_err(nccl)?;
        Ok(Self { all, comms })
    }

    fn one(&mut self, rank: usize) -> Result<(&Arc<CudaStream>, &mut CudaSlice<f32>), String> {
        let one = self.all.get_mut(rank).ok_or("no such rank")?;
        one.context.bind_to_thread().map_err(driver)?;
        let buffer = one.buffer.as_mut().ok_or("no buffer")?;
        Ok((&one.stream, buffer))
    }
}

impl Gpus for Real {
    fn devices(&self) -> Vec<(String, u64)> {
        let facts = self.all.iter().map(|one| {
            let name = one.context.name().unwrap_or_default();
            let free = one.context.mem_get_info().map_or(0, |(free, _)| free);
            (name, u64::try_from(free).unwrap_or(0))
        });
        facts.collect()
    }

    fn reserve(&mut self, count: usize) -> Result<(), String> {
        for one in &mut self.all {
            one.context.bind_to_thread().map_err(driver)?;
            one.buffer = Some(one.stream.alloc_zeros::<f32>(count).map_err(driver)?);
        }
        Ok(())
    }

    fn write(&mut self, rank: usize, at: usize, values: &[f32]) -> Result<(), String> {
        let (stream, buffer) = self.one(rank)?;
        let part = buffer.try_slice_mut(at..at + values.len());
        let mut part = part.ok_or("beyond the buffer")?;
        stream.memcpy_htod(values, &mut part).map_err(driver)
    }

    fn read(&mut self, rank: usize, at: usize, values: &mut [f32]) -> Result<(), String> {
        let (stream, buffer) = self.one(rank)?;
        let part = buffer.try_slice(at..at + values.len());
        let part = part.ok_or("beyond the buffer")?;
        stream.memcpy_dtoh(&part, values).map_err(driver)?;
        stream.synchronize().map_err(driver)
    }

    fn reduce(&mut self, count: usize, times: u32) -> Result<Vec<f64>, String> {
        for one in &self.all {
            one.stream.synchronize().map_err(driver)?;
        }
        let since = Instant::now();
        for _ in 0..times {
            group_start().map_err(nccl)?;
            for (one, comm) in self.all.iter_mut().zip(&self.comms) {
                let buffer = one.buffer.as_mut().ok_or("no buffer")?;
                let part = buffer.try_slice_mut(..count);
                let mut part = part.ok_or("beyond the buffer")?;
                comm.all_reduce_in_place(&mut part, &ReduceOp::Sum)
                    .map_err(nccl)?;
            }
            group_end().map_err(nccl)?;
        }
        let mut took = Vec::new();
        for one in &self.all {
            one.stream.synchronize().map_err(driver)?;
            took.push(since.elapsed().as_secs_f64());
        }
        Ok(took)
    }
}
