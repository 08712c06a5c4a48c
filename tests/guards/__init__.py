"""Every guard whose removal some test must notice, and the first test that does.

`row` is the number among the faults that peers have.

records of the last page are used before the shard ends (row 1): test_a_parent_is_published_before_its_children
a shard that is found later starts at the trim horizon (row 2): test_a_child_that_is_listed_late_is_found_and_read_from_its_beginning
latest only at the very first start (row 2): test_a_run_from_latest_that_was_killed_before_its_first_checkpoint_jumps_over_nothing[0.0-True]
latest is asked for once (row 2): test_an_expired_iterator_without_a_number_is_renewed_at_the_original_start_never_latest[position1-again1]
a parent is read before its child (row 3): test_a_child_waits_for_its_parent
a parent is settled before its child is read (row 3): test_a_parent_is_published_before_its_children
a parent that is not on this page may be on another one (row 3): test_an_unlisted_parent_may_stand_on_another_page_until_all_pages_were_seen
a parent missing in one listing of several pages is looked for again (row 3): test_a_parent_that_a_listing_of_several_pages_missed_is_waited_for
every page of the listing is read (row 4): test_all_pages_of_the_listing_are_read
what a listing without an end leaves out is not gone (row 4): test_what_a_listing_in_circles_leaves_out_is_not_lost[nowhere]
a page of the listing that fails does not start it anew (row 4): test_a_page_of_the_listing_that_fails_is_asked_for_again_and_the_others_are_kept
shards of pages that were listed start although a later page fails (row 4): test_new_shards_that_were_listed_are_read_although_a_later_page_keeps_failing
a shard behind which the listing goes on may have been trimmed (row 4): test_a_listing_whose_next_page_begins_behind_a_shard_that_is_gone_begins_anew
an expired iterator is renewed (row 5): test_an_expired_iterator_is_renewed_after_the_last_number
an iterator is renewed after the last number, not at it (row 5): test_a_shard_starts_where_its_position_says[position6-True-asked6]
an iterator is renewed behind what was read, not where the shard started (row 5): test_a_shard_starts_where_its_position_says[position6-True-asked6]
a stored iterator that fails gives way to the original start (row 5): test_a_stored_iterator_that_fails_gives_way_to_the_original_start[Fault.EXPIRED]
an iterator that expires at once again and again is not a busy loop (row 5): test_an_iterator_that_expires_at_once_again_and_again_is_not_a_busy_loop
a stored iterator is not used where its sequence number is known (row 5): test_a_stored_iterator_gives_way_to_the_sequence_number_before_it
a page without a next iterator is no end of an open shard (row 1): test_a_page_without_a_next_iterator_is_no_end_while_the_shard_is_listed_open
a stored end is not believed of a shard that is listed open (row 1): test_a_stored_end_is_not_believed_of_a_shard_that_is_listed_open
a trimmed position is reported (row 6): test_a_trimmed_position_is_reported_as_a_gap_and_reading_goes_on
a gap can stop the run before anything moves (row 6): test_a_gap_can_stop_the_run_before_anything_moves
a shard that nobody read for a day has lost its beginning (row 6): test_a_child_that_nobody_read_for_a_day_has_lost_what_was_trimmed
nothing is called lost while the shard's first number can be read (row 6): test_nothing_is_called_lost_as_long_as_the_shards_first_number_can_be_read
a shard that is no longer listed and was not read to its end is a gap (row 6): test_a_shard_that_is_no_longer_listed_with_an_unread_position_is_a_gap
a parent that came and went unseen is a gap (row 6): test_a_shard_that_came_and_went_between_two_runs_is_a_gap
a deleted shard is ended and not tried for ever (row 7): test_a_shard_deleted_under_its_reader_is_reported_and_not_tried_for_ever
a stream that is gone is accounted for (row 7): test_a_deleted_stream_ends_the_run
a finished shard is stored before its children start (row 8): test_the_last_page_of_a_closed_shard_has_records_and_they_are_published
a bounded run keeps no iterator behind records that it left out (row 8): test_a_bounded_run_relays_exactly_so_many_records_and_the_next_goes_on[1]
a run claims its consumer (row 9): test_a_store_that_fails_at_the_start_ends_the_run_before_anything_is_sent[claim]
a reader looks for room again when its turn has come (ours): test_a_slow_bus_before_a_thousand_full_shards_holds_a_bounded_number_of_pages
the shards are listed at AWS's pace (ours): test_a_thousand_shards_that_roll_over_together_are_followed_at_aws_pace
a shard that ended is looked for again until its child is listed (ours): test_after_a_restart_the_late_child_of_a_finished_shard_is_found_at_once
a child may be listed after its finished parent was seen by an earlier run (ours): test_after_a_restart_the_late_child_of_a_finished_shard_is_found_at_once
an open parent with children is closed (ours): test_latest_covers_exactly_the_open_leaves_of_any_tree
a leaf of a disabled stream is final (ours): test_a_leaf_of_a_disabled_stream_is_final
a start by time includes its whole second (ours): test_a_time_is_asked_for_from_its_whole_second_since_records_carry_no_more
an endpoint that refuses a time gets the trim horizon and a filter (ours): test_a_refused_time_becomes_the_trim_horizon_with_a_filter
a clock that is set back prolongs no pause (ours): test_a_clock_that_is_set_back_or_ahead_holds_nobody_up
a save that was begun is finished, so that the ledger counts each record once (ours): test_a_stop_in_the_middle_of_a_save_neither_forgets_nor_repeats_what_it_counts
a trimmed record that was read is a gap unless two times say that nothing came behind it (row 6): test_a_reader_that_has_read_waits_for_no_horizon_to_come_to_rest
a time that a wrong clock noted proves nothing (row 6): test_a_seen_time_that_is_still_to_come_was_noted_by_a_clock_that_was_wrong
a first run that read nothing may start again whenever it likes (ours): test_a_first_run_that_read_nothing_may_start_again_whenever_it_likes
a gap counts only behind the records that were read before it (row 6): test_a_gap_counts_once_all_before_it_is_settled_and_is_closed_by_the_next_record
the frontier passes no unsettled record (row 8): test_an_unsettled_record_holds_the_position_before_it
a dead letter is durable before its record counts as settled (row 8): test_a_final_code_parks_the_record_and_is_not_tried_again[AccessDeniedException]
an iterator is stored only behind a page that is settled whole (row 8): test_the_iterator_behind_a_page_is_kept_only_when_the_whole_page_is_settled
a second live owner is refused (row 9): TestSqliteMemory::test_a_second_live_owner_is_refused_and_the_first_one_goes_on
the lock file says who lives (row 9): TestSqliteFile::test_a_second_live_owner_is_refused_and_the_first_one_goes_on
a run that was fenced out moves no checkpoint (row 9): test_an_owner_on_another_machine_is_given_up_after_a_silence_and_can_move_nothing_then
checkpoints are kept by stream and shard, not by shard alone (row 9): TestSqliteFile::test_consumers_and_streams_with_the_same_shard_ids_keep_apart
only failed entries are sent again (row 10): test_only_the_failed_entries_of_a_request_are_sent_again
a code that is not final is tried again (row 10): test_only_the_failed_entries_are_to_be_sent_again
sending again waits longer and longer (row 10): test_failed_entries_are_sent_again_with_a_growing_pause
a request stays below one megabyte (row 11): test_ten_big_entries_are_packed_by_bytes_and_not_by_count_only
an oversize event is parked before it is sent (row 11): test_an_oversize_event_is_parked_without_being_sent_and_others_flow
later events of a parked item queue up behind it (row 13): test_an_item_with_dead_letters_stays_parked_in_the_next_run
events that wait behind one that is refused are parked with it (row 13): test_a_poison_record_parks_its_item_queues_behind_it_and_the_others_flow
items with dead letters stay parked in the next run (row 13): test_an_item_with_dead_letters_stays_parked_in_the_next_run
a delete by Time to Live is told apart (row 15): test_both_forms_of_a_record_say_the_same
numbers keep every digit (row 16): test_every_digit_of_a_38_digit_number_is_kept
integers beyond 64 bits become text (row 16): test_every_digit_of_a_38_digit_number_is_kept
binary keys are told apart (row 17): test_binary_stays_base64_text_so_that_different_keys_stay_different
a skip publishes nothing (row 18): test_what_the_mapping_rejects_is_parked_and_what_it_skips_is_counted_by_rule
sequence numbers are compared as integers (row 19): TestSqliteFile::test_a_block_that_does_not_follow_stands_for_itself
two events of an item are never in flight together (ours): test_packing_crosses_no_limit_and_swaps_no_key_whatever_is_answered
an event that failed goes before later ones of its item (ours): test_an_entry_to_be_sent_again_goes_before_the_later_ones_of_its_item
a lost answer is sent again (ours): TestAwsBus::test_a_lost_answer_is_to_be_sent_again[moto]
readers wait while too much is held (ours): test_a_slow_bus_holds_the_readers_up_so_that_memory_stays_bounded
pages that unsettled records hold are counted by their bytes (ours): test_records_that_are_not_settled_hold_their_pages_and_readers_wait_for_them
the ledger is saved with the checkpoint (ours): TestSqliteFile::test_the_ledger_grows_with_the_checkpoint
a bus that is gone parks nothing (row 13): test_without_the_bus_of_the_run_nothing_goes_to_another_one
nothing is sent while the bus takes nothing (ours): test_a_bus_deleted_in_the_middle_pauses_the_run_and_parks_nothing
a bus that takes nothing is looked at again (ours): test_a_bus_deleted_in_the_middle_pauses_the_run_and_parks_nothing
a bus that denies everything ends the run instead of parking it (ours): test_another_bus_that_takes_nothing_from_us_ends_the_run_after_what_was_taken_is_told
throttling makes fewer requests fly together (row 10): test_throttling_makes_fewer_requests_fly_together_and_nothing_is_parked
a few events wait for company (ours): test_a_request_is_filled_across_shards
pages that were asked for are counted before they come (ours): test_a_slow_bus_with_a_million_records_behind_fills_no_memory
a detail is in S3 before its event is sent (row 11): test_an_oversize_event_reaches_the_consumer_through_s3[moto]
a dead letter keeps the detail that was to go to S3 (ours): test_an_offloaded_event_that_is_refused_is_parked_with_its_whole_detail
all events of a record go before the next record of its item (ours): test_the_events_of_a_record_go_in_order_and_before_the_next_record_of_its_item
a record is settled by the last of its events (ours): test_the_fate_of_a_record_counts_once_and_each_of_its_events_is_told
a dead letter keeps the events that are left (ours): test_a_refused_event_parks_its_record_with_the_events_that_were_not_sent
a dead letter keeps no event that was accepted (ours): test_a_refused_event_parks_its_record_with_the_events_that_were_not_sent
nothing of a record is sent when one of its events fits no request (ours): test_a_record_with_one_event_that_is_too_large_parks_before_anything_is_sent
a redrive keeps no event that was accepted (ours): test_a_redrive_that_fails_in_the_middle_keeps_only_what_is_left
a change is redacted before anything of it is stored (ours): test_the_mapping_sees_a_change_before_anything_of_it_is_stored
another bus that is missing does not spoil the requests of the others (ours): test_a_missing_bus_that_is_not_the_runs_holds_up_its_own_events_only
the bus of the run comes first, so that nothing goes while it is missing (ours): test_a_missing_bus_that_is_not_the_runs_holds_up_its_own_events_only
what was accepted is told before a refusal ends the run (ours): test_a_refusal_in_the_middle_of_parts_comes_after_what_was_accepted
only the bus of the run says that it takes events again (ours): test_what_another_bus_takes_says_nothing_of_the_one_that_is_gone
an item whose letters are gone flows again (row 14): test_a_running_relay_goes_on_with_the_item_when_its_letters_are_gone
letters that would wait behind nothing are not kept (row 14): TestSqliteFile::test_a_letter_that_would_wait_behind_nothing_comes_back_and_so_do_those_after_it
the first rule that matches ends the search (ours): test_the_first_of_two_rules_that_match_counts
of the events of a change all go or none (ours): test_all_events_of_a_change_go_or_none
what is skipped is redacted too (ours): test_what_is_skipped_or_rejected_is_redacted_too
a change that is mapped again is seen whole again (ours): test_rules_see_what_is_redacted_and_nobody_else
explanations do not show what is redacted (ours): test_an_explanation_shows_nothing_of_what_is_redacted
an image that cannot be read is left out where something of it is redacted (ours): test_an_image_that_cannot_be_read_is_left_out
what differed is told from the images as they were written (ours): test_what_differed_is_still_known
events of one aggregate follow one another (ours): test_events_of_one_aggregate_follow_one_another
a later event of a change has an id of its own (ours): test_rules_that_continue_raise_several_events_each_with_its_own_id
half a surrogate pair spoils one image and not its page (ours): test_half_a_surrogate_pair_makes_one_image_unreadable_and_not_the_page
a detail type over 128 characters is refused (templates) (row 12): test_a_record_that_a_rule_cannot_handle_is_rejected_with_the_rules_name
an integer that PutEvents refuses becomes text (ours): test_an_integer_beyond_64_bits_becomes_text_so_that_nothing_is_half_sent
only what the outbox preset made is tidied (ours): test_an_item_that_a_rule_took_before_the_preset_stays
what was redacted is not forgotten when it is mapped again (ours): test_a_record_that_was_redacted_is_not_forgotten_because_its_rule_sees_nothing_any_more
a letter stands in the line in which it was parked (ours): test_a_letter_stands_in_the_line_in_which_it_was_parked
an object inside an array is compared whole (ours): test_a_field_matches_the_values_that_its_list_allows
"""

from guards.delivering import DELIVERING
from guards.guard import Guard
from guards.mapping import MAPPING
from guards.reading import READING

GUARDS = [*READING, *MAPPING, *DELIVERING]

__all__ = ["GUARDS", "Guard"]
