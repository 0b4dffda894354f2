//! Lines of all-reduce tests: our script's and those of nccl-tests, as people's launchers and log tools pass them on.

use ncclscope::parse::perf::{Half, Said, Status, Tests, file, line};

fn row(text: &str) -> ncclscope::parse::perf::Row {
    match line(text.as_bytes()) {
        Some(Said::Row(row)) => *row,
        other => panic!("{text}: {other:?}"),
    }
}

fn remark(text: &str) -> Tests {
    match line(text.as_bytes()) {
        Some(Said::Tests(t)) => t,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_row_of_nccl_tests_behind_any_launcher() {
    let bare = "  1073741824     268435456     float     sum      -1   4213.7  254.82  477.79      0   4201.1  255.59  479.23      3";
    for before in [
        "",
        "[1,0]<stdout>:",
        "0: ",
        "[pod/llm-0/vllm] ",
        "[1,0]<stdout>:\x1b[0m",
    ] {
        let row = row(&format!("{before}{bare}"));
        assert_eq!(
            (row.bytes, row.count, row.kind.as_str()),
            (1 << 30, 1 << 28, "float")
        );
        assert_eq!(
            row.out_of_place,
            Some(Half {
                us: 4213.7,
                algbw: 254.82,
                busbw: 477.79,
                wrong: Some(0)
            })
        );
        assert_eq!(row.wrong(), Some(3));
        assert_eq!(row.best().map(|h| h.busbw), Some(479.23));
    }
}

#[test]
fn rows_in_their_other_shapes() {
    let unchecked = row("8 2 bfloat16 sum -1 1e+05 0.00 0.00 N/A 12.1 0.00 0.00 N/A");
    assert_eq!(
        (unchecked.wrong(), unchecked.best().map(|h| h.us)),
        (None, Some(1e5))
    );
    let stamped = row("8 2 float sum -1 10.5 0.01 0.01 0 10.1 0.02 0.02 0 2026-11-21 10:00:00");
    assert_eq!(stamped.in_place.map(|h| h.algbw), Some(0.02));
    let timed = row(
        "8 2 float sum -1 10.5 0.01 0.01 0 9.1 12.0 11.9 0.1 10.1 0.02 0.03 1 9.0 12.2 12.0 0.2",
    );
    assert_eq!(
        timed.in_place,
        Some(Half {
            us: 10.1,
            algbw: 0.02,
            busbw: 0.03,
            wrong: Some(1)
        })
    );
    let replay = row("8 2 float32 sum -1        107.01     0.00     0.00        0");
    assert_eq!(
        (replay.out_of_place, replay.in_place.map(|h| h.us)),
        (None, Some(107.01))
    );
}

#[test]
fn what_is_no_row_is_left_alone() {
    for text in [
        "",
        "1 2 3 4 5 6 7 8 9 10 11 12 13",
        "8 2 float sum -1 nan 0.00 0.00 0 1 1 1 0",
        "2026-11-21 10:00:00 INFO 1 2 3 4 5 6 7 8 9 10",
        "llm-0:77:77 [0] NCCL INFO Using network Socket",
        "# a comment",
        "#ncclscope {\"v\": 2, \"status\": \"row\"}",
        "#ncclscope {torn",
        "the log quotes: someone wrote long ago Test NCCL failure x",
    ] {
        assert_eq!(line(text.as_bytes()), None, "{text}");
    }
    assert_eq!(line(&vec![b'8'; 1 << 20]), None);
}

#[test]
fn remarks_of_nccl_tests() {
    assert_eq!(
        remark("# nccl-tests version 2.19.6 nccl-headers=23004 nccl-library=22707"),
        Tests::Version {
            version: "2.19.6".into(),
            library: Some(22707)
        }
    );
    assert_eq!(
        remark("# Collective test starting: all_reduce_perf"),
        Tests::Starting("all_reduce_perf".into())
    );
    assert_eq!(
        remark(
            "# nThread 1 nGpus 8 minBytes 8 maxBytes 1073741824 step: 2(factor) warmup iters: 1 iters: 20 agg iters: 1 validation: 1 graph: 0 unalign: 0"
        ),
        Tests::Params {
            min_bytes: 8,
            max_bytes: 1 << 30,
            iters: 20,
            validation: true
        }
    );
    assert_eq!(
        remark(
            "#  Rank  3 Group  0 Pid   4711 on      gpu-1 device  3 [0000:5d:00] NVIDIA H100 80GB HBM3"
        ),
        Tests::Device {
            rank: 3,
            pid: 4711,
            host: "gpu-1".into(),
            device: 3,
            bus: "0000:5d:00".into(),
            name: "NVIDIA H100 80GB HBM3".into()
        }
    );
    assert!(matches!(
        remark("#  Rank  3 Pid   4711 on      gpu-1 device  3 [0x5d] NVIDIA A100"),
        Tests::Device { rank: 3, .. }
    ));
    assert_eq!(
        remark("# Out of bounds values : 12 FAILED"),
        Tests::OutOfBounds {
            wrong: 12,
            ok: false
        }
    );
    assert_eq!(
        remark("# Avg bus bandwidth    : 93.1421 "),
        Tests::Average {
            busbw: 93.1421,
            ok: None
        }
    );
    assert_eq!(
        remark("# Avg bus bandwidth    : 93.1421 FAILED"),
        Tests::Average {
            busbw: 93.1421,
            ok: Some(false)
        }
    );
    assert_eq!(
        remark("# Collective test concluded: all_reduce_perf"),
        Tests::Concluded("all_reduce_perf".into())
    );
    assert!(matches!(
        remark("# Reducing maxBytes to 1024 due to memory limitation"),
        Tests::Reduced(_)
    ));
    assert_eq!(
        remark("gpu-1: Test NCCL failure common.cu:1279 'remote process exited or there was a network error / '"),
        Tests::Failure {
            host: Some("gpu-1".into()),
            text: "Test NCCL failure common.cu:1279 'remote process exited or there was a network error / '".into()
        }
    );
    assert_eq!(
        remark(" .. gpu-1 pid 77: Test failure common.cu:1150"),
        Tests::Failure {
            host: Some("gpu-1".into()),
            text: "Test failure common.cu:1150".into()
        }
    );
}

#[test]
fn lines_of_the_script() {
    let Some(Said::Step(step)) = line(
        br#"2026-11-21T10:00:00Z #ncclscope {"v": 1, "t": 5, "run": "r1", "rank": 3, "step": "gloo", "status": "fail", "ms": 12, "error": "RuntimeError: Connection closed by peer", "at": "64 B float32", "after_rank": 1, "more": {"x": [1]}}"#,
    ) else {
        panic!("no step")
    };
    assert_eq!(
        (step.rank, step.step.as_str(), step.status),
        (Some(3), "gloo", Status::Fail)
    );
    assert_eq!(
        (step.after_rank, step.at.as_deref()),
        (Some(1), Some("64 B float32"))
    );
    let r = row(
        r#"#ncclscope {"v": 1, "t": 1, "run": "r1", "rank": 0, "step": "sweep", "status": "row", "dtype": "bfloat16", "bytes": 1024, "count": 512, "world": 16, "iters": 20, "us": 10.0, "us_min": 8.0, "us_max": 12.0, "slowest": 7, "algbw": 0.1, "busbw": 0.19, "wrong": 0}"#,
    );
    assert_eq!(
        (r.by.as_str(), r.world, r.spread),
        ("sweep", Some(16), Some((7, 1.5)))
    );
    assert_eq!(r.in_place.map(|h| h.busbw), Some(0.19));
}

#[test]
fn the_result_file_gives_away_no_secret() {
    let json = br#"{"version": "2.19.6", "env": ["HF_TOKEN=hf_abc", "NCCL_DEBUG=INFO", "PATH=/bin", "NCCL_PROXY_AUTH=pw", "odd"],
        "results": [{"size": 1024, "count": 256, "type": "float", "redop": "sum", "root": -1,
            "out_of_place": {"time": 12.5, "alg_bw": 0.1, "bus_bw": "nan", "nwrong": "0"},
            "in_place": {"time": 10.5, "alg_bw": 0.1, "bus_bw": 0.2, "nwrong": 0}}],
        "out_of_bounds": {"count": 0, "okay": "true"}, "errors": []}"#;
    let read = file(json).expect("a result file");
    assert_eq!(read.env, [("NCCL_DEBUG".to_owned(), "INFO".to_owned())]);
    assert_eq!(read.hidden, 4);
    assert!(!format!("{read:?}").contains("hf_abc") && !format!("{read:?}").contains("pw"));
    assert_eq!(read.rows.len(), 1);
    assert_eq!(read.rows[0].best().map(|h| h.busbw), Some(0.2));
    assert_eq!(file(b"{}"), None);
}

/// Live logs carry the API server's stamp before each line.
#[test]
fn the_stamp_of_a_live_log_is_no_part_of_a_row() {
    let row = "2026-03-02T03:10:00.123456789Z     1048576        262144     float     sum      -1    37.10   28.26   28.26      0    36.90   28.42   28.42      0";
    match line(row.as_bytes()) {
        Some(Said::Row(row)) => assert_eq!((row.bytes, row.by.as_str()), (1 << 20, "nccl-tests")),
        other => panic!("{other:?}"),
    }
    let remark = line(b"2026-03-02T03:10:00Z # Out of bounds values : 3 FAILED");
    assert!(
        matches!(
            remark,
            Some(Said::Tests(Tests::OutOfBounds {
                wrong: 3,
                ok: false
            }))
        ),
        "{remark:?}"
    );
}
