//! Which way an all-reduce takes: the sentences of the reference, and silence where a condition is not known.

use ncclscope::rules::routes::{Conditions, Decided, bytes, tensor_parallel};

/// A group inside one host, with everything known and in favour.
fn good(size: usize, capability: (u32, u32), version: (u16, u16, u16)) -> Conditions {
    Conditions {
        size,
        version: Some(version),
        backend: Some("nccl".into()),
        spans_hosts: Some(false),
        custom_disabled: Some(false),
        would_have_said: true,
        symm_env: Some(String::new()),
        capability: Some(capability),
        dtype: Some("torch.bfloat16".into()),
        ..Conditions::default()
    }
}

/// `8 MiB custom, 64 MiB symm-two-shot, nccl`.
fn told(d: &Decided) -> String {
    let routes = d.as_ref().unwrap_or_else(|e| panic!("open: {e}"));
    assert!(routes.iter().all(|r| !r.because.is_empty()));
    let one = |r: &ncclscope::rules::scene::RouteView| match r.max_bytes {
        Some(n) => format!("{} {}", bytes(n), r.path),
        None => r.path.to_owned(),
    };
    routes.iter().map(one).collect::<Vec<_>>().join(", ")
}

const V011: (u16, u16, u16) = (0, 11, 2);

/// Section 5.5 of the reference, line by line.
#[test]
fn the_sentences_of_the_reference() {
    let cases = [
        (2, (9, 0), "8 MiB custom, 64 MiB symm-two-shot, nccl"),
        (4, (9, 0), "8 MiB custom, 32 MiB symm-multimem, nccl"),
        (8, (9, 0), "256 KiB custom, 64 MiB symm-multimem, nccl"),
        (2, (10, 0), "2 MiB custom, 8 MiB symm-two-shot, nccl"),
        (4, (10, 0), "2 MiB custom, 32 MiB symm-two-shot, nccl"),
        (8, (10, 0), "1 MiB custom, 128 MiB symm-multimem, nccl"),
        (8, (8, 0), "8 MiB custom, nccl"),
        (2, (8, 9), "8 MiB custom, nccl"),
    ];
    for (size, capability, want) in cases {
        let got = tensor_parallel(&good(size, capability, V011));
        assert_eq!(told(&got), want, "{size} ranks of {capability:?}");
    }
}

#[test]
fn what_vllm_says_is_off_is_off() {
    let mut c = good(4, (8, 9), V011);
    c.custom_off = Some("because it's not supported on more than two PCIe-only GPUs".into());
    let routes = tensor_parallel(&c).unwrap();
    assert_eq!(told(&Ok(routes.clone())), "nccl");
    assert!(
        routes[0].because.contains("PCIe-only"),
        "{}",
        routes[0].because
    );
    let mut c = good(8, (9, 0), V011);
    c.symm_off = Some("multicast operations are not supported".into());
    assert_eq!(told(&tensor_parallel(&c)), "8 MiB custom, nccl");
    let mut c = good(8, (9, 0), V011);
    c.symm_env = Some("0".into());
    assert_eq!(told(&tensor_parallel(&c)), "8 MiB custom, nccl");
    let mut c = good(8, (9, 0), V011);
    c.dtype = Some("torch.float16".into());
    assert_eq!(told(&tensor_parallel(&c)), "8 MiB custom, nccl");
    let mut c = good(8, (9, 0), V011);
    c.custom_disabled = Some(true);
    assert_eq!(told(&tensor_parallel(&c)), "64 MiB symm-multimem, nccl");
}

#[test]
fn versions_decide() {
    // Before 0.10.2 there is no symmetric memory, and its variable means nothing.
    let mut c = good(8, (9, 0), (0, 10, 1));
    c.symm_env = None;
    assert_eq!(told(&tensor_parallel(&c)), "8 MiB custom, nccl");
    assert_eq!(
        told(&tensor_parallel(&good(8, (9, 0), (0, 10, 2)))),
        "8 MiB custom, nccl"
    );
    // Several nodes switched custom all-reduce off, also for groups inside one of them.
    let mut c = good(4, (9, 0), V011);
    c.nnodes = Some(2);
    assert_eq!(told(&tensor_parallel(&c)), "32 MiB symm-multimem, nccl");
}

#[test]
fn a_group_over_hosts_has_nccl_alone_and_one_on_cpus_gloo() {
    let mut c = good(16, (9, 0), V011);
    c.spans_hosts = Some(true);
    assert_eq!(told(&tensor_parallel(&c)), "nccl");
    let mut c = good(2, (9, 0), V011);
    c.backend = Some("gloo".into());
    assert_eq!(told(&tensor_parallel(&c)), "gloo");
}

/// The list that vLLM prints itself outranks every inference.
#[test]
fn the_printed_list_outranks_what_could_be_inferred() {
    let mut c = good(8, (9, 0), (0, 24, 0));
    c.nnodes = Some(2);
    c.would_have_said = false;
    c.active = Some(vec!["CUSTOM".into(), "SYMM_MEM".into(), "PYNCCL".into()]);
    assert_eq!(
        told(&tensor_parallel(&c)),
        "256 KiB custom, 64 MiB symm-multimem, nccl"
    );
    c.active = Some(vec!["PYNCCL".into()]);
    assert_eq!(told(&tensor_parallel(&c)), "nccl");
    c.active = Some(vec!["FLASHINFER".into(), "PYNCCL".into()]);
    assert!(tensor_parallel(&c).unwrap_err().contains("FLASHINFER"));
}

/// One unknown condition that matters, and nothing is said.
#[test]
fn what_is_not_known_is_named_and_not_guessed() {
    type Forget = fn(&mut Conditions);
    let cases: [(Forget, &str); 6] = [
        (|c| c.capability = None, "capability"),
        (|c| c.symm_env = None, "VLLM_ALLREDUCE_USE_SYMM_MEM"),
        (|c| c.version = None, "version"),
        (|c| c.spans_hosts = None, "host"),
        (|c| c.would_have_said = false, "not in these lines"),
        (|c| c.custom_disabled = None, "--disable-custom-all-reduce"),
    ];
    for (change, word) in cases {
        let mut c = good(8, (9, 0), V011);
        change(&mut c);
        let open = tensor_parallel(&c).unwrap_err();
        assert!(open.contains(word), "{open}");
    }
}
