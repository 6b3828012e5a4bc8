package exporter

// newerFields are the fields of INFO and CLUSTER INFO that came with Redis 8
// and with Valkey 8 and 9. Where redis_exporter has one of them too (from
// September 2026 on), name and type are its own.
func newerFields() []field {
	return []field{
		// Redis: clients and memory
		{"active_clients", "active_clients", gauge, "Clients that were served within the server's rolling window of activity (since Redis 8.8)."},
		{"used_memory_peak_time", "memory_used_peak_timestamp_seconds", gauge, "Unix time at which the use of memory was highest (since Redis 8.2)."},
		{"used_memory_hash_templates", "memory_used_hash_templates_bytes", gauge, "Bytes of the field names that hashes of one shape share, part of the used memory (since Redis 8.10)."},
		{"mem_replica_full_sync_buffer", "mem_replica_full_sync_buffer_bytes", gauge, "Bytes of memory for what a replica receives of its primary's stream while it still loads the data set (since Redis 8.0)."},
		{"mem_cluster_slot_migration_output_buffer", "mem_cluster_slot_migration_output_buffer_bytes", gauge, "Bytes that wait to be sent to the node to which slots are being moved (since Redis 8.4)."},
		{"mem_cluster_slot_migration_input_buffer", "mem_cluster_slot_migration_input_buffer_bytes", gauge, "Bytes received of slots that are being moved to this node and not applied yet (since Redis 8.4)."},
		{"mem_cluster_slot_migration_input_buffer_peak", "mem_cluster_slot_migration_input_buffer_peak_bytes", gauge, "Highest number of bytes received of moving slots and not applied yet (since Redis 8.4)."},

		// Redis: persistence
		{"rdb_saves_consecutive_failures", "rdb_saves_consecutive_failures", gauge, "Saves that failed since the last good one (Redis 8)."},
		{"backup_in_progress", "backup_in_progress", gauge, "1 while the server takes a backup of its own (since Redis 8.10)."},

		// Redis: stats
		{"expired_keys_active", "expired_keys_active_total", counter, "Keys that expired in the background, before anybody asked for them (Redis 8)."},
		{"expired_subkeys_active", "expired_subkeys_active_total", counter, "Hash fields that expired in the background, before anybody asked for them (Redis 8)."},
		{"hash_templates", "hash_templates", gauge, "Different sets of field names that hashes share (since Redis 8.10)."},
		{"hash_template_keys", "hash_template_keys", gauge, "Hashes that share their field names with others (since Redis 8.10)."},
		{"eventloop_cycles_with_clients_processing", "eventloop_cycles_with_clients_processing_total", counter, "Turns of the event loop in which input of clients was read (since Redis 8.8)."},
		{"total_client_processing_events", "client_processing_events_total", counter, "Times that the input buffer of a client was looked at (since Redis 8.8)."},
		{"avg_pipeline_length_sum", "client_processing_pipeline_commands_total", counter, "Commands found in the input of clients (since Redis 8.8)."},
		{"avg_pipeline_length_cnt", "client_processing_pipeline_batches_total", counter, "Readings of the input of a client that found a command (since Redis 8.8)."},
		{"avg_pipeline_length", "client_processing_pipeline_length", gauge, "Commands that one reading of a client's input finds, on average (since Redis 8.8)."},
		{"slowlog_commands_count", "slowlog_commands_total", counter, "Commands that went into the slow log (since Redis 8.8)."},
		{"slowlog_commands_time_ms_sum", "slowlog_commands_duration_seconds_total", counterMillis, "Seconds that the commands in the slow log took, those long gone from it included (since Redis 8.8)."},
		{"slowlog_commands_time_ms_max", "slowlog_commands_duration_seconds_max", gaugeMillis, "Seconds of the slowest command that went into the slow log (since Redis 8.8)."},
		{"acl_access_denied_tls_cert", "acl_access_denied_tls_cert_total", counter, "Logins by TLS client certificate that were refused (since Redis 8.8, Valkey 9.1)."},

		// Redis: replication
		{"replica_full_sync_buffer_size", "replica_full_sync_buffer_size_bytes", gauge, "Bytes of the primary's stream that this replica holds while it still loads the data set (since Redis 8.0)."},
		{"replica_full_sync_buffer_peak", "replica_full_sync_buffer_peak_bytes", gauge, "Highest number of bytes of the primary's stream held while loading (since Redis 8.0)."},

		{"master_current_sync_attempts", "master_current_sync_attempts", gauge, "Times this replica has tried to synchronise since it last lost its primary (since Redis 8.2)."},
		{"master_total_sync_attempts", "master_sync_attempts_total", counter, "Times this replica has tried to synchronise with a primary (since Redis 8.2)."},
		{"master_link_up_since_seconds", "master_link_up_since_seconds", gauge, "Seconds since the link to the primary came up (since Redis 8.2)."},
		{"total_disconnect_time_sec", "master_disconnected_seconds_total", counter, "Seconds this replica has been without its primary (since Redis 8.2)."},

		// Both: I/O threads
		{"io_threaded_total_prefetch_batches", "io_threaded_prefetch_batches_total", counter, "Batches of commands whose keys were fetched into the CPU's cache ahead (Redis 8, Valkey 8)."},
		{"io_threaded_total_prefetch_entries", "io_threaded_prefetch_entries_total", counter, "Keys that were fetched into the CPU's cache ahead of their command (Redis 8, Valkey 8)."},
		{"io_threaded_freed_objects", "io_threaded_freed_objects_total", counter, "Objects freed by I/O threads (since Valkey 8.0)."},
		{"io_threaded_accept_processed", "io_threaded_accept_processed_total", counter, "Connections accepted by I/O threads (since Valkey 8.1)."},
		{"io_threaded_poll_processed", "io_threaded_poll_processed_total", counter, "Times that an I/O thread waited for input in the main thread's stead (since Valkey 8.0)."},

		// Valkey: clients and memory
		{"paused_timeout_milliseconds", "paused_timeout_seconds", gaugeMillis, "Seconds until clients that are held back are served again; 0 when none are (since Valkey 8.1)."},
		{"mem_replicas_repl_buffer", "mem_replicas_repl_buffer_bytes", gauge, "Bytes of memory for what a replica receives of its primary's stream while it still loads the data set (since Valkey 9.1)."},
		{"mem_cluster_slot_import", "mem_cluster_slot_import_bytes", gauge, "Bytes of the connections on which slots move to this node (since Valkey 9.0)."},
		{"mem_cluster_slot_export", "mem_cluster_slot_export_bytes", gauge, "Bytes of the connections on which slots move to another node (since Valkey 9.0)."},

		// Valkey: persistence and stats
		{"slot_migration_fork_in_progress", "slot_migration_fork_in_progress", gauge, "1 while a child process sends slots to another node (since Valkey 9.0)."},
		{"total_net_cluster_slot_import_bytes", "net_cluster_slot_import_bytes_total", counter, "Bytes read from the network of slots that move to this node (since Valkey 9.0)."},
		{"total_net_cluster_slot_export_bytes", "net_cluster_slot_export_bytes_total", counter, "Bytes written to the network of slots that move to another node (since Valkey 9.0)."},
		{"expired_fields", "expired_fields_total", counter, "Hash fields that expired (since Valkey 9.0)."},
		{"expired_keys_with_volatile_items_stale_perc", "expired_keys_with_volatile_items_stale_percentage", gauge, "Estimated share, in percent, of hashes with expired fields that are still there (since Valkey 9.0)."},
		{"acl_access_denied_db", "acl_access_denied_db_total", counter, "Commands refused by an ACL because of the database (since Valkey 9.1)."},

		// Valkey: replication
		{"replicas_repl_buffer_size", "replicas_repl_buffer_size_bytes", gauge, "Bytes of the primary's stream that this replica holds while it still loads the data set (since Valkey 8.0)."},
		{"replicas_repl_buffer_peak", "replicas_repl_buffer_peak_bytes", gauge, "Highest number of bytes of the primary's stream held while loading (since Valkey 8.0)."},
		{"replicas_waiting_psync", "replicas_waiting_psync", gauge, "Replicas that load the data set on one connection and have still to open that for the stream (since Valkey 8.0)."},

		// Valkey: scripting engines
		{"engines_count", "scripting_engines_count", gauge, "Scripting engines (since Valkey 9.1)."},
		{"engines_total_used_memory", "scripting_engines_memory_used_bytes", gauge, "Bytes of all scripting engines (since Valkey 9.1)."},
		{"engines_total_memory_overhead", "scripting_engines_memory_overhead_bytes", gauge, "Bytes of the server's own records of all scripting engines (since Valkey 9.1)."},

		// CLUSTER INFO
		{"total_cluster_links_buffer_limit_exceeded", "cluster_links_buffer_limit_exceeded_total", counter, "Links to other nodes that were closed because of cluster-link-sendbuf-limit (since Redis 7.0)."},
		{"cluster_nodes_pfail", "cluster_nodes_pfail", gauge, "Nodes that this node cannot reach (PFAIL; since Valkey 9.1)."},
		{"cluster_nodes_fail", "cluster_nodes_fail", gauge, "Nodes that the majority cannot reach (FAIL; since Valkey 9.1)."},
		{"cluster_voting_nodes_pfail", "cluster_voting_nodes_pfail", gauge, "Primaries with slots that this node cannot reach (PFAIL; since Valkey 9.1)."},
		{"cluster_voting_nodes_fail", "cluster_voting_nodes_fail", gauge, "Primaries with slots that the majority cannot reach (FAIL; since Valkey 9.1)."},
		{"cluster_stats_bytes_sent", "cluster_stats_bytes_sent", gauge, "Bytes sent over the cluster bus, since the start (since Valkey 9.1)."},
		{"cluster_stats_bytes_received", "cluster_stats_bytes_received", gauge, "Bytes received over the cluster bus, since the start (since Valkey 9.1)."},
		{"cluster_stats_pubsub_bytes_sent", "cluster_stats_pubsub_bytes_sent", gauge, "Bytes of published messages sent over the cluster bus, since the start (since Valkey 9.1)."},
		{"cluster_stats_pubsub_bytes_received", "cluster_stats_pubsub_bytes_received", gauge, "Bytes of published messages received over the cluster bus, since the start (since Valkey 9.1)."},
		{"cluster_stats_module_bytes_sent", "cluster_stats_module_bytes_sent", gauge, "Bytes of modules' messages sent over the cluster bus, since the start (since Valkey 9.1)."},
		{"cluster_stats_module_bytes_received", "cluster_stats_module_bytes_received", gauge, "Bytes of modules' messages received over the cluster bus, since the start (since Valkey 9.1)."},
	}
}
