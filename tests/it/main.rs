//! The offline integration tests: no network except loopback, no external service.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "../support/clip.rs"]
mod clip;
#[path = "../support/conformance.rs"]
mod conformance;
#[path = "../support/distort.rs"]
mod distort;
#[path = "../support/golden_folders.rs"]
mod golden_folders;
#[path = "../support/goldens.rs"]
mod goldens;
#[path = "../support/gpu_cost.rs"]
mod gpu_cost;
#[expect(dead_code, reason = "the tests against real services use the rest")]
#[path = "../support/hub.rs"]
mod hub;
#[path = "../support/noop.rs"]
mod noop;
#[expect(dead_code, reason = "the tests against real services use the rest")]
#[path = "../support/process.rs"]
mod process;
#[path = "../support/qwen2.rs"]
mod qwen2;
#[path = "../support/qwen3_5.rs"]
mod qwen3_5;
#[path = "../support/qwen3_5_tokenizer.rs"]
mod qwen3_5_tokenizer;
#[path = "../support/random_checkpoint.rs"]
mod random_checkpoint;
#[path = "../support/random_tensor.rs"]
mod random_tensor;
#[path = "../support/random_weights.rs"]
mod random_weights;
#[path = "../support/raw_fetch.rs"]
mod raw_fetch;
#[path = "../support/raw_produce.rs"]
mod raw_produce;
#[path = "../support/scoring_server.rs"]
mod scoring_server;
#[path = "../support/served_api.rs"]
mod served_api;
#[path = "../support/small_networks.rs"]
mod small_networks;
#[path = "../support/stream.rs"]
mod stream;
#[path = "../support/wait.rs"]
mod wait;
#[path = "../support/web_server.rs"]
mod web_server;

mod broken_weights;
mod cache;
mod chart;
mod check_engine;
mod checkpoint_forms;
mod classic_monotone;
mod cli;
mod cli_ask;
mod clip_iqa;
#[cfg(feature = "cuda")]
mod cuda_parity;
mod documents;
mod dog_iqa;
mod duplicates;
mod engine;
mod engine_conformance;
mod engine_kills;
mod evaluate;
mod event_notification;
mod event_notification_lists;
mod event_quality;
mod event_reference;
mod forbidden_references;
mod goldens_agreement;
mod goldens_clip_iqa;
mod goldens_evaluate;
mod goldens_folders;
mod goldens_mplug_owl3;
mod goldens_mplug_owl3_processor;
mod goldens_qwen3_5_vl;
mod goldens_qwen3_5_vl_operations;
mod goldens_qwen3_5_vl_processor;
mod goldens_qwen3_5_vl_stages;
mod goldens_rle;
mod goldens_sam2;
mod goldens_sam2_amg;
mod goldens_sam2_steps;
mod gpu_launches;
mod http_scorer;
mod imaging_decode;
#[cfg(all(feature = "heic", feature = "avif", feature = "jxl"))]
mod imaging_heic_avif_jxl;
mod imaging_limits;
mod jpeg_damage;
mod measures;
mod metric_parameters;
mod models_hub;
mod models_pull;
mod monitor;
mod mplug_owl3_checkpoints;
mod mplug_owl3_formats;
mod mplug_owl3_ratings;
mod odd_formats;
mod odd_images;
mod otlp;
mod output_reader;
mod pipeline;
mod q_realign;
mod q_realign_gguf;
mod reasons;
mod release;
mod release_rules;
mod report;
mod runbook;
mod sam2_checkpoints;
mod schema;
mod scorer_outages;
mod scorers;
mod serve;
mod serve_clients;
mod serve_command;
mod serve_contract;
mod serve_priority;
mod serve_stop;
mod snapshots;
mod storage_buckets;
mod storage_files;
mod storage_keys;
mod storage_web;
mod store_outages;
mod stream_answers;
mod stream_faults;
mod stream_notifications;
mod stream_rebalance;
mod stream_shadow;
mod stream_transactions;
