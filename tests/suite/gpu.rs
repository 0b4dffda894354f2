//! What samplers print, understood: every source of GPU figures, damaged and whole.

use ncclscope::parse::gpu::{CORE, GpuReading, MORE, Reading, bus_id, read};
use ncclscope::parse::prom;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn gpus(tool: &str, text: &str) -> Vec<GpuReading> {
    read(tool, text.as_bytes())
        .into_iter()
        .filter_map(|r| match r {
            Reading::Gpu(gpu) => Some(*gpu),
            _ => None,
        })
        .collect()
}

const MIB: u64 = 1 << 20;

#[test]
fn bus_ids_of_every_tool_are_one_number() {
    for (text, number) in [
        ("00000000:3B:00.0", 0x3b000),
        ("0000:3b:00.0", 0x3b000),
        ("0000:9b:00", 0x9b000),
        ("9B:00.0", 0x9b000),
        ("3b000", 0x3b000),
        ("00000001:00:1f.7", 0x10_01f7),
        ("100000", 0x10_0000),
    ] {
        assert_eq!(bus_id(text), Some(number), "{text}");
    }
    for text in ["", "gpu", "0000:zz:00.0", "0:0:0:0.0", "00000000:3B:00.9"] {
        assert_eq!(bus_id(text), None, "{text}");
    }
}

#[test]
fn both_queries_of_nvidia_smi_are_told_by_their_columns() {
    assert_eq!(CORE.split(',').count() + 1, 13);
    assert_eq!(format!("{CORE},{MORE},name").split(',').count(), 21);
    let few = gpus(
        "nvidia-smi",
        "0, GPU-5d9b0a52-0000-0000-0000-000000000000, 00000000:3B:00.0, 81559, 62011, 98, 41, 54, 412.31, 700.00, 1755, 1980, NVIDIA H100 80GB HBM3\n",
    );
    let one = few.first().unwrap();
    assert_eq!(
        (one.index, one.bus, one.total, one.used),
        (
            Some(0),
            Some(0x3b000),
            Some(81_559 * MIB),
            Some(62_011 * MIB)
        )
    );
    assert_eq!(
        (one.busy, one.celsius, one.watts),
        (Some(98), Some(54), Some(412.31))
    );
    assert_eq!(one.name.as_deref(), Some("NVIDIA H100 80GB HBM3"));
    assert_eq!((one.throttle, one.driver.as_deref()), (None, None));
    let many = gpus(
        "nvidia-smi",
        "1, GPU-5d9b0a52-0000-0000-0000-000000000001, 00000000:5E:00.0, 81559, 4, 0, 0, 31, 70.11, 700.00, 345, 1980, 551, 0x0000000000000001, 0, 2, Disabled, 5, 16, 550.90.07, NVIDIA H100 80GB HBM3\n",
    );
    let one = many.first().unwrap();
    assert_eq!(
        (one.reserved, one.throttle, one.ecc_corrected, one.pcie),
        (Some(551 * MIB), Some(1), Some(2), Some((5, 16)))
    );
    assert_eq!(
        (one.mig, one.driver.as_deref()),
        (Some(false), Some("550.90.07"))
    );
}

/// What a tool can't say is unknown, never 0; what it says of a GPU's health is kept.
#[test]
fn missing_fields_stay_unknown() {
    let text = "\
index, uuid, pci.bus_id, memory.total [MiB], memory.used [MiB], utilization.gpu [%], utilization.memory [%], temperature.gpu, power.draw [W], enforced.power.limit [W], clocks.current.sm [MHz], clocks.max.sm [MHz], name
0, GPU-a, 00000000:3B:00.0, [N/A], [N/A], [N/A], [Not Supported], 31, [N/A], [Not Supported], 345, N/A, NVIDIA GB10
1, GPU-b, 00000000:5E:00.0, 81559, [Insufficient Permissions], [Insufficient Permissions], 0, 31, 70.11, 700.00, 345, 1980, NVIDIA H100 80GB HBM3
2, GPU-c, 00000000:86:00.0, [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost]
3, GPU-d, 00000000:AF:00.0, 81559 MiB, 12 MiB, 7 %, 0 %, 31, 70.11 W, 700.00 W, 345 MHz, 1980 MHz, NVIDIA H100 80GB HBM3
";
    let all = gpus("nvidia-smi", text);
    assert_eq!(all.len(), 4);
    let of = |i: usize| all.get(i).unwrap();
    assert_eq!(
        (of(0).total, of(0).used, of(0).busy, of(0).state.as_deref()),
        (None, None, None, None)
    );
    assert_eq!(
        (of(1).used, of(1).state.as_deref()),
        (None, Some("Insufficient Permissions"))
    );
    assert_eq!(
        (of(2).used, of(2).name.as_deref(), of(2).state.as_deref()),
        (None, None, Some("GPU is lost"))
    );
    assert_eq!(
        (of(3).used, of(3).busy, of(3).watts),
        (Some(12 * MIB), Some(7), Some(70.11))
    );
}

#[test]
fn complaints_of_the_tool_are_said() {
    for text in [
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.",
        "Failed to initialize NVML: Unknown Error",
        "Failed to initialize NVML: Driver/library version mismatch",
        "No devices were found",
        "Field \"clocks_event_reasons.active\" is not a valid field to query.",
        "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost.  Reboot the system to recover this GPU",
    ] {
        assert_eq!(
            read("nvidia-smi", text.as_bytes()),
            [Reading::Trouble(text.to_owned())],
            "{text}"
        );
    }
    assert!(read("nvidia-smi", b"some words, and more\n\n").is_empty());
}

#[test]
fn the_sampler_s_own_lines() {
    let text = b"cgroup version=2 memory=1000 max=max anon=600 file=300 shmem=100 swap=0 cpu=5000000 block=4096 storage=8192 calls=9000 oom=0 available_kb=4 swap_kb=0 swap_free_kb=0\n\
model bytes=93405585408\n\
trouble why=nvidia-smi: not found\n\
cgroup version=1 memory=7 max=9223372036854771712 cpu_ns=5000\n";
    let all = read("cgroup", text);
    let Some(Reading::Cgroup(two)) = all.first() else {
        panic!("{all:?}")
    };
    assert_eq!(
        (two.memory, two.memory_max, two.cpu_us, two.host_available),
        (Some(1000), None, Some(5_000_000), Some(4096))
    );
    assert_eq!(all.get(1), Some(&Reading::ModelBytes(93_405_585_408)));
    assert_eq!(
        all.get(2),
        Some(&Reading::Trouble("nvidia-smi: not found".into()))
    );
    let Some(Reading::Cgroup(one)) = all.get(3) else {
        panic!("{all:?}")
    };
    assert_eq!(
        (one.version, one.memory_max, one.cpu_us, one.anon),
        (Some(1), None, Some(5), None)
    );
}

#[test]
fn dcgm_s_metrics() {
    let text = r#"# HELP DCGM_FI_DEV_FB_USED Framebuffer memory used (in MiB).
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="3",UUID="GPU-a",pci_bus_id="00000000:9B:00.0",device="nvidia3",modelName="NVIDIA H100 80GB HBM3",Hostname="gpu-07",DCGM_FI_DRIVER_VERSION="550.90.07",container="vllm",namespace="prod",pod="llm-1"} 62011
DCGM_FI_DEV_FB_FREE{gpu="3",UUID="GPU-a"} 18997
DCGM_FI_DEV_FB_RESERVED{gpu="3",UUID="GPU-a"} 551
DCGM_FI_DEV_GPU_UTIL{gpu="3",UUID="GPU-a"} 100
DCGM_FI_DEV_XID_ERRORS{gpu="3",UUID="GPU-a",err_code="79",err_msg="say \"hi\"\\"} 79
DCGM_FI_DEV_FB_USED{gpu="4",UUID="GPU-b",GPU_I_ID="1",GPU_I_PROFILE="1g.10gb"} 12
DCGM_FI_DEV_GPU_TEMP{gpu="5",UUID="GPU-c"} NaN
"#;
    let all = gpus("dcgm", text);
    assert_eq!(all.len(), 1);
    let one = all.first().unwrap();
    assert_eq!(one.total, Some((62_011 + 18_997 + 551) * MIB));
    assert_eq!(
        (one.bus, one.xid, one.busy, one.node.as_deref()),
        (Some(0x9b000), Some(79), Some(100), Some("gpu-07"))
    );
    assert_eq!(
        one.holder,
        Some(("prod".into(), "llm-1".into(), "vllm".into()))
    );
    let odd = prom::samples(text.as_bytes(), |n| n == b"DCGM_FI_DEV_XID_ERRORS")
        .next()
        .unwrap();
    assert_eq!(odd.label("err_msg"), Some("say \"hi\"\\"));
}

const PIECES: &[&str] = &[
    "0",
    ", ",
    "GPU-a",
    "00000000:3B:00.0",
    "[N/A]",
    "81559",
    "\n",
    "0x4",
    "cgroup ",
    "memory=",
    "9999999999999999999999",
    "DCGM_FI_DEV_FB_USED",
    "{gpu=\"",
    "UUID=\"",
    "\"",
    "\\",
    "}",
    " ",
    "model bytes=",
    "-1",
    "1e400",
    "\u{1b}[31m",
    "name=",
    "gpu ",
    "process ",
    "uuid=GPU-a ",
    "pid=1 ",
    "xid code=7",
    "é",
    "\u{0}",
];

proptest! {
    /// Nothing from outside panics, invents a GPU without identity, or brings control characters in.
    #[test]
    fn whatever_comes(pieces in vec(select(PIECES), 0..60), noise in vec(any::<u8>(), 0..40), tool in select(&["nvidia-smi", "cgroup", "dcgm", "nvml"][..])) {
        let mut text = pieces.concat().into_bytes();
        text.extend(noise);
        for r in read(tool, &text) {
            match r {
                Reading::Gpu(gpu) => {
                    prop_assert!(gpu.uuid.is_some() || gpu.bus.is_some());
                    let said = gpu.name.into_iter().chain(gpu.state);
                    prop_assert!(!said.into_iter().any(|t| t.chars().any(char::is_control)));
                }
                Reading::Trouble(text) => prop_assert!(!text.chars().any(char::is_control)),
                _ => {}
            }
        }
    }

    /// A line of figures is read back whatever the figures are.
    #[test]
    fn figures_come_back(used in 0u64..200_000, busy in 0u32..101, bus in 0u64..256) {
        let text = format!("0, GPU-a, 00000000:{bus:02X}:00.0, 81559, {used}, {busy}, 0, 31, 70.11, 700.00, 345, 1980, X\n");
        let gpu = gpus("nvidia-smi", &text).remove(0);
        prop_assert_eq!((gpu.used, gpu.busy, gpu.bus), (Some(used * MIB), Some(busy), Some(bus << 12)));
    }
}
