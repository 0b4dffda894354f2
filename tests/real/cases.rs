//! Every case, in the order they run.

use std::future::Future;
use std::pin::Pin;

use crate::access::{
    a_command_ends_soon_after_we_vanish, a_refused_command_names_the_rule,
    commands_run_over_both_protocols, what_nccl_writes_to_a_file_is_followed,
};
use crate::allreduce::{
    a_dry_run_prints_and_creates_nothing, a_queue_that_holds_a_test_is_named,
    a_test_is_graded_beside_the_workload, a_test_is_removed_however_it_ends,
    a_test_is_what_was_shown_and_leaves_nothing, a_test_needs_leave,
    the_worker_is_handed_into_the_waiting_pod,
};
use crate::dashboard::{
    a_terminal_that_is_lost_leaves_no_test_behind, a_test_from_the_screen_asks_and_cleans_up,
};
use crate::discovery::{
    a_restricted_user_sees_what_he_may, every_kind_of_workload_is_discovered,
    three_thousand_foreign_pods_are_never_listed,
};
use crate::inside::{
    checks_run_by_themselves_where_they_may,
    gpus_are_read_from_the_exporter_where_commands_are_forbidden,
    what_is_served_is_asked_through_the_proxy,
};
use crate::levels::the_roles_that_are_printed_suffice;
use crate::manners::{
    a_login_plug_in_prompts_before_the_screen_is_taken, proxies_are_honoured_as_kubectl_does,
};
use crate::plane::Plane;
use crate::pods::{
    a_quiet_screen_costs_almost_no_requests, nodes_that_carry_our_pods_are_read_where_they_may_be,
    the_columns_are_those_of_the_api_servers_own_table, the_first_failure_outlives_restarts,
    why_a_pod_is_pending_comes_by_events,
};
use crate::readme::{a_wall_goes_round_namespaces_and_workloads, every_command_of_the_readme_runs};
use crate::sampler::sixteen_pods_are_sampled_and_left_alone;
use crate::screen::the_screen_shows_two_pods_and_how_their_ranks_talk;
use crate::storms::{
    every_line_of_64_pods_comes_once_or_is_counted, expired_credentials_are_said_and_nothing_hangs,
    five_hundred_pods_are_followed_in_bounded_memory,
    watches_survive_restarts_compaction_and_cut_connections,
};
use crate::typed::a_test_inside_the_pods_wants_the_name_typed;
use crate::verbs::{
    a_bundle_keeps_what_is_deleted_with_the_pods, doctor_says_what_is_missing,
    wait_blocks_until_it_is_so,
};

type Case = fn(&Plane) -> Pin<Box<dyn Future<Output = ()> + '_>>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub const CASES: &[(&str, Case)] = &[$((stringify!($name), |p| Box::pin($name(p)))),*];
    };
}

cases![
    the_screen_shows_two_pods_and_how_their_ranks_talk,
    every_command_of_the_readme_runs,
    a_wall_goes_round_namespaces_and_workloads,
    every_kind_of_workload_is_discovered,
    the_columns_are_those_of_the_api_servers_own_table,
    why_a_pod_is_pending_comes_by_events,
    the_first_failure_outlives_restarts,
    a_restricted_user_sees_what_he_may,
    expired_credentials_are_said_and_nothing_hangs,
    a_login_plug_in_prompts_before_the_screen_is_taken,
    proxies_are_honoured_as_kubectl_does,
    watches_survive_restarts_compaction_and_cut_connections,
    every_line_of_64_pods_comes_once_or_is_counted,
    three_thousand_foreign_pods_are_never_listed,
    a_quiet_screen_costs_almost_no_requests,
    five_hundred_pods_are_followed_in_bounded_memory,
    nodes_that_carry_our_pods_are_read_where_they_may_be,
    commands_run_over_both_protocols,
    what_nccl_writes_to_a_file_is_followed,
    a_command_ends_soon_after_we_vanish,
    a_refused_command_names_the_rule,
    what_is_served_is_asked_through_the_proxy,
    gpus_are_read_from_the_exporter_where_commands_are_forbidden,
    checks_run_by_themselves_where_they_may,
    wait_blocks_until_it_is_so,
    a_bundle_keeps_what_is_deleted_with_the_pods,
    doctor_says_what_is_missing,
    sixteen_pods_are_sampled_and_left_alone,
    the_roles_that_are_printed_suffice,
    a_test_is_what_was_shown_and_leaves_nothing,
    a_test_is_removed_however_it_ends,
    a_test_needs_leave,
    a_dry_run_prints_and_creates_nothing,
    a_test_is_graded_beside_the_workload,
    a_queue_that_holds_a_test_is_named,
    the_worker_is_handed_into_the_waiting_pod,
    a_test_inside_the_pods_wants_the_name_typed,
    a_test_from_the_screen_asks_and_cleans_up,
    a_terminal_that_is_lost_leaves_no_test_behind,
];
