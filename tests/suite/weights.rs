//! How much the weights of a model weigh where its index does not say: by its files, else by its configuration; and
//! which of those who say so a GPU's plan is made of.

use ncclscope::model::event::{ContainerKey, Event, PodKey, ProbeEvent, ProbeOutcome, Stamped};
use ncclscope::model::update;
use ncclscope::parse::probe::{Answer, Model, answer};
use ncclscope::rules::modelsize::{Basis, weights};
use ncclscope::rules::scene::Scene;
use ncclscope::sources::sim;

use crate::stage;

fn listed(out: &str) -> Model {
    match answer("model-files", out) {
        Some(Answer::Model(m)) => m,
        other => panic!("{out} gave {other:?}"),
    }
}

fn config(pairs: &str) -> String {
    let row = |p: &str| {
        let (k, v) = p.split_once('=').unwrap();
        format!("config\t{k}\t{v}\n")
    };
    pairs.split_whitespace().map(row).collect()
}

const LLAMA_70B: &str = "hidden_act=silu hidden_size=8192 intermediate_size=28672 num_hidden_layers=80 num_attention_heads=64 num_key_value_heads=8 vocab_size=128256 tie_word_embeddings=False torch_dtype=bfloat16";
const DEEPSEEK_V3: &str = "hidden_act=silu hidden_size=7168 intermediate_size=18432 moe_intermediate_size=2048 num_hidden_layers=61 num_attention_heads=128 num_key_value_heads=128 n_routed_experts=256 n_shared_experts=1 first_k_dense_replace=3 q_lora_rank=1536 kv_lora_rank=512 qk_nope_head_dim=128 qk_rope_head_dim=64 v_head_dim=128 vocab_size=129280 tie_word_embeddings=False torch_dtype=bfloat16 quant_method=fp8";
const QWEN_05B: &str = "hidden_act=silu hidden_size=896 intermediate_size=4864 num_hidden_layers=24 num_attention_heads=14 num_key_value_heads=2 vocab_size=151936 tie_word_embeddings=True torch_dtype=bfloat16";

/// Published sizes, GB, hit within two parts in a hundred.
#[test]
fn a_configuration_comes_near_what_the_files_weigh() {
    for (name, pairs, gb) in [
        ("70 B, dense", LLAMA_70B, 141.1),
        // 671 B in fp8 with bf16 tables; its files hold a layer for speculation beside it.
        ("671 B, experts behind small ranks", DEEPSEEK_V3, 672.9),
        ("0.5 B, tied tables", QWEN_05B, 0.988),
    ] {
        let (basis, bytes) = weights(&listed(&config(pairs))).unwrap();
        assert_eq!(basis, Basis::Config);
        let got = bytes as f64 / 1e9;
        assert!((got / gb - 1.0).abs() < 0.02, "{name}: {got} for {gb}");
    }
    // Four bits of a packed layer, and what says nothing of how it is packed.
    let packed = format!("{LLAMA_70B} quant_method=awq bits=4");
    let (_, bytes) = weights(&listed(&config(&packed))).unwrap();
    assert!((36e9..40e9).contains(&(bytes as f64)), "{bytes}");
    for silent in [
        format!("{LLAMA_70B} quant_method=exotic"),
        LLAMA_70B.replace("silu", "relu"),
        LLAMA_70B.replace("hidden_size=8192 ", ""),
        "hidden_act=silu hidden_size=1e300 num_hidden_layers=x".into(),
    ] {
        assert_eq!(weights(&listed(&config(&silent))), None, "{silent}");
    }
}

/// Heads of files say it to the byte, sizes nearly; a copy that is on its way says nothing.
#[test]
fn files_say_it_while_all_of_them_are_there() {
    let two = "file\t1108\ta.safetensors\nhead\ta.safetensors\t100\t1000\nfile\t2108\tb.safetensors\nhead\tb.safetensors\t100\t\n";
    assert_eq!(weights(&listed(two)), Some((Basis::Files, 3000)));
    let index = format!("{two}shard\ta.safetensors\n");
    assert_eq!(
        weights(&listed(&index)),
        Some((Basis::Files, 1000)),
        "the index leaves one out"
    );
    assert_eq!(
        weights(&listed(&format!("{index}total\t977\n"))),
        Some((Basis::Index, 977))
    );
    for on_its_way in ["shard\tc.safetensors\n", "incomplete\tc.incomplete\n"] {
        assert_eq!(weights(&listed(&format!("{two}{on_its_way}"))), None);
    }
    let native =
        "file\t2\tparams.json\nfile\t500\tconsolidated-1.safetensors\nfile\t900\tx.safetensors\n";
    assert_eq!(weights(&listed(native)), Some((Basis::Files, 500)));
    assert_eq!(
        weights(&listed("file\t700\tpytorch_model.bin\n")),
        Some((Basis::Files, 700))
    );
}

/// Without an index the GPUs are held against what the probe found, an estimate is called one, and the loader's own
/// figure goes before an estimate.
#[test]
fn the_plan_says_what_it_is_made_of() {
    let scenario = sim::load("healthy").unwrap();
    let plan = |out: &str, loader: bool| {
        let mut model = stage::model(120, 40);
        let until = scenario.start_ns() + 34_000_000_000;
        for (at, event) in sim::events(&scenario) {
            let event = match event {
                Event::Sample(mut s) => {
                    s.text = s
                        .text
                        .lines()
                        .filter(|l| !l.starts_with("model "))
                        .map(|l| format!("{l}\n"))
                        .collect();
                    Event::Sample(s)
                }
                Event::Probe(_) => continue,
                e => e,
            };
            if at <= until {
                update(&mut model, Stamped { seq: 0, at, event });
            }
        }
        if loader {
            let first = model.speakers.list.first_mut().unwrap();
            first.checkpoint_gib = Some(100.0);
        }
        let probe = Event::Probe(ProbeEvent {
            probe: "model-files".into(),
            container: Some(ContainerKey {
                pod: PodKey {
                    namespace: "prod".into(),
                    name: "mixtral-0".into(),
                },
                container: "vllm".into(),
            }),
            ran: "list".into(),
            outcome: ProbeOutcome::Answered {
                code: 0,
                out: out.into(),
                err: String::new(),
                cut: false,
                ms: 1,
            },
        });
        update(
            &mut model,
            Stamped {
                seq: 0,
                at: until,
                event: probe,
            },
        );
        let scene = Scene::of(&model);
        let g = scene.gpus.first().unwrap();
        (g.expected_weights, g.expected_from.clone())
    };
    let files = "file\t80000000008\tmodel.safetensors\nhead\tmodel.safetensors\t0\t80000000000\n";
    let (bytes, from) = plan(files, true);
    assert_eq!(bytes, Some(10_000_000_000));
    assert_eq!(from.as_deref(), Some("its files: 80.0 GB by TP 4 × PP 2"));
    let (_, from) = plan(&config(LLAMA_70B), false);
    assert_eq!(
        from.as_deref(),
        Some("an estimate by its config: 141.1 GB by TP 4 × PP 2")
    );
    let (bytes, from) = plan(&config(LLAMA_70B), true);
    assert_eq!(bytes, Some((100 << 30) / 8));
    assert!(from.unwrap().starts_with("the loader: 107.4 GB"));
    assert_eq!(plan("", false).0, None);
}
