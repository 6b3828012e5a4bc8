package exporter

// kinFields are the fields of INFO that only servers akin to Redis have.
func kinFields() []field {
	return []field{
		// Valkey
		{"used_active_time_main_thread", "active_time_main_thread_seconds_total", counter, "Seconds the main thread was busy (Valkey)."},

		// KeyDB
		{"server_threads", "server_threads_total", gauge, "Threads that serve clients (KeyDB)."},
		{"long_lock_waits", "long_lock_waits_total", gauge, "Long waits for the global lock, since the start (KeyDB)."},
		{"current_client_thread", "current_client_thread", gauge, "Thread that serves this connection (KeyDB)."},
		{"cached_keys", "cached_keys_total", counter, "Keys in the memory cache of the storage provider (KeyDB)."},
		{"storage_provider_read_hits", "storage_provider_read_hits", counter, "Reads from the storage provider that found their key (KeyDB)."},
		{"storage_provider_read_misses", "storage_provider_read_misses", counter, "Reads from the storage provider that did not find their key (KeyDB)."},

		// Tile38
		{"tile38_aof_size", "tile38_aof_size_bytes", gauge, "Bytes of the append-only file (Tile38)."},
		{"tile38_avg_point_size", "tile38_avg_item_size_bytes", gauge, "Average bytes of a point (Tile38)."},
		{"tile38_sys_cpus", "tile38_cpus_total", gauge, "CPUs of the machine (Tile38)."},
		{"tile38_go_goroutines", "tile38_go_goroutines_total", gauge, "Goroutines (Tile38)."},
		{"tile38_heap_released_bytes", "tile38_heap_released_bytes", gauge, "Bytes of heap given back to the operating system (Tile38)."},
		{"tile38_heap_alloc_bytes", "tile38_heap_size_bytes", gauge, "Bytes of the heap in use (Tile38)."},
		{"tile38_http_transport", "tile38_http_transport", gauge, "1 when the HTTP transport is on (Tile38)."},
		{"tile38_in_memory_size", "tile38_in_memory_size_bytes", gauge, "Bytes of all objects in memory (Tile38)."},
		{"tile38_last_gc_time_seconds", "tile38_last_gc_time_seconds", gauge, "Time of the last garbage collection in seconds (Tile38)."},
		{"tile38_max_heap_size", "tile38_max_heap_size_bytes", gauge, "Configured limit of the heap in bytes (Tile38)."},
		{"tile38_alloc_bytes", "tile38_mem_alloc_bytes", gauge, "Bytes allocated (Tile38)."},
		{"tile38_next_gc_bytes", "tile38_next_gc_bytes", gauge, "Bytes of heap that start the next garbage collection (Tile38)."},
		{"tile38_num_collections", "tile38_num_collections_total", gauge, "Collections (Tile38)."},
		{"tile38_num_hooks", "tile38_num_hooks_total", gauge, "Web hooks (Tile38)."},
		{"tile38_num_objects", "tile38_num_objects_total", gauge, "Objects (Tile38)."},
		{"tile38_num_points", "tile38_num_points_total", gauge, "Points (Tile38)."},
		{"tile38_pointer_size", "tile38_pointer_size_bytes", gauge, "Bytes of a pointer (Tile38)."},
		{"tile38_read_only", "tile38_read_only", gauge, "1 in read-only mode (Tile38)."},
		{"tile38_go_threads", "tile38_threads_total", gauge, "Operating system threads (Tile38)."},
	}
}

// moduleFields are the fields that modules add to INFO.
func moduleFields() []field {
	return []field{
		// RediSearch, any version
		{"search_number_of_indexes", "search_number_of_indexes", gauge, "Search indexes (RediSearch)."},
		{"search_used_memory_indexes", "search_used_memory_indexes_bytes", gauge, "Bytes of all search indexes (RediSearch)."},
		{"search_total_indexing_time", "search_indexing_time_ms_total", counter, "Milliseconds spent indexing (RediSearch)."},
		{"search_dialect_1", "search_dialect_1", gauge, "1 when query dialect 1 was used (RediSearch)."},
		{"search_dialect_2", "search_dialect_2", gauge, "1 when query dialect 2 was used (RediSearch)."},
		{"search_dialect_3", "search_dialect_3", gauge, "1 when query dialect 3 was used (RediSearch)."},
		{"search_dialect_4", "search_dialect_4", gauge, "1 when query dialect 4 was used (RediSearch)."},

		// RediSearch of redis-stack 7.4
		{"search_global_idle", "search_global_idle", gauge, "Idle cursors (RediSearch before 8)."},
		{"search_global_total", "search_global_total", gauge, "Cursors (RediSearch before 8)."},
		{"search_bytes_collected", "search_collected_bytes", gauge, "Bytes freed by garbage collection, since the start (RediSearch before 8)."},
		{"search_total_cycles", "search_cycles_total", counter, "Garbage collections (RediSearch before 8)."},
		{"search_total_ms_run", "search_run_ms_total", counter, "Milliseconds of garbage collection (RediSearch before 8)."},

		// RediSearch 8
		{"search_number_of_active_indexes", "search_number_of_active_indexes", gauge, "Search indexes at work: indexing or queried (RediSearch 8)."},
		{"search_number_of_active_indexes_running_queries", "search_number_of_active_indexes_running_queries", gauge, "Search indexes that are queried now (RediSearch 8)."},
		{"search_number_of_active_indexes_indexing", "search_number_of_active_indexes_indexing", gauge, "Search indexes that are indexing now (RediSearch 8)."},
		{"search_total_active_write_threads", "search_total_active_write_threads", gauge, "Threads that write to search indexes now (RediSearch 8)."},
		{"search_total_num_docs_in_indexes", "search_total_num_docs_in_indexes", gauge, "Documents in all search indexes (RediSearch 8)."},
		{"search_smallest_memory_index", "search_smallest_memory_index_bytes", gauge, "Bytes of the smallest search index (RediSearch 8)."},
		{"search_largest_memory_index", "search_largest_memory_index_bytes", gauge, "Bytes of the largest search index (RediSearch 8)."},
		{"search_used_memory_vector_index", "search_used_memory_vector_index_bytes", gauge, "Bytes of all vector indexes (RediSearch 8)."},
		{"search_global_idle_user", "search_global_idle_user", gauge, "Idle cursors of users (RediSearch 8)."},
		{"search_global_idle_internal", "search_global_idle_internal", gauge, "Idle internal cursors (RediSearch 8)."},
		{"search_global_total_user", "search_global_total_user", gauge, "Cursors of users (RediSearch 8)."},
		{"search_global_total_internal", "search_global_total_internal", gauge, "Internal cursors (RediSearch 8)."},
		{"search_gc_bytes_collected", "search_gc_collected_bytes", gauge, "Bytes freed by garbage collection, since the start (RediSearch 8)."},
		{"search_gc_total_cycles", "search_gc_cycles_total", counter, "Garbage collections (RediSearch 8)."},
		{"search_gc_total_ms_run", "search_gc_run_ms_total", counter, "Milliseconds of garbage collection (RediSearch 8)."},
		{"search_gc_total_docs_not_collected", "search_gc_total_docs_not_collected", gauge, "Deleted documents that garbage collection has not removed yet (RediSearch 8)."},
		{"search_gc_marked_deleted_vectors", "search_gc_marked_deleted_vectors", gauge, "Vectors marked as deleted and not removed yet (RediSearch 8)."},
		{"search_errors_indexing_failures", "search_errors_indexing_failures", gauge, "Documents that could not be indexed, since the start (RediSearch 8)."},
		{"search_total_queries_processed", "search_queries_processed_total", counter, "Queries processed (RediSearch 8)."},
		{"search_total_query_commands", "search_query_commands_total", counter, "Query commands, cursor reads included (RediSearch 8)."},
		{"search_total_query_execution_time_ms", "search_query_execution_time_ms_total", counter, "Milliseconds spent in queries (RediSearch 8)."},
		{"search_total_active_queries", "search_active_queries_total", counter, "Queries that run now (RediSearch 8)."},

		// Valkey modules: bloom, JSON, search
		{"bf_bloom_total_memory_bytes", "bf_bloom_total_memory_bytes", gauge, "Bytes of all bloom objects (valkey-bloom)."},
		{"bf_bloom_num_objects", "bf_bloom_num_objects", gauge, "Bloom objects (valkey-bloom)."},
		{"bf_bloom_num_filters_across_objects", "bf_bloom_num_filters_across_objects", gauge, "Filters in all bloom objects (valkey-bloom)."},
		{"bf_bloom_num_items_across_objects", "bf_bloom_num_items_across_objects", gauge, "Items in all bloom objects (valkey-bloom)."},
		{"bf_bloom_capacity_across_objects", "bf_bloom_capacity_across_objects", gauge, "Capacity of all bloom objects in items (valkey-bloom)."},
		{"bf_bloom_defrag_hits", "bf_bloom_defrag_hits_total", counter, "Bloom objects moved by active defragmentation (valkey-bloom)."},
		{"bf_bloom_defrag_misses", "bf_bloom_defrag_misses_total", counter, "Bloom objects that active defragmentation left as they were (valkey-bloom)."},
		{"json_total_memory_bytes", "json_total_memory_bytes", gauge, "Bytes of all JSON documents (valkey-json)."},
		{"json_num_documents", "json_num_documents", gauge, "JSON documents (valkey-json)."},
		{"search_used_memory_bytes", "search_used_memory_bytes", gauge, "Bytes of the search module (valkey-search)."},
		{"search_number_of_attributes", "search_number_of_attributes", gauge, "Attributes of all search indexes (valkey-search)."},
		{"search_total_indexed_documents", "search_total_indexed_documents", gauge, "Documents in all search indexes (valkey-search)."},
		{"search_query_queue_size", "search_query_queue_size", gauge, "Queries that wait for a reader thread (valkey-search)."},
		{"search_writer_queue_size", "search_writer_queue_size", gauge, "Changes that wait for a writer thread (valkey-search)."},
		{"search_string_interning_store_size", "search_string_interning_store_size", gauge, "Strings in the interning store (valkey-search)."},
		{"search_vector_externing_hash_extern_errors", "search_vector_externing_hash_extern_errors", gauge, "Hash vectors that could not be shared with the key space, since the start (valkey-search)."},
		{"search_vector_externing_num_lru_entries", "search_vector_externing_num_lru_entries", gauge, "Vectors in the LRU list of shared vectors (valkey-search)."},
		{"search_worker_pool_suspend_cnt", "search_worker_pool_suspend_count", counter, "Times the worker pool was suspended (valkey-search)."},
		{"search_writer_resumed_cnt", "search_writer_resumed_count", counter, "Times the writer threads were resumed (valkey-search)."},
		{"search_reader_resumed_cnt", "search_reader_resumed_count", counter, "Times the reader threads were resumed (valkey-search)."},
		{"search_writer_suspension_expired_cnt", "search_writer_suspension_expired_count", counter, "Times a suspension of the writer threads expired (valkey-search)."},
		{"search_rdb_load_success_cnt", "search_rdb_load_success_count", counter, "Search indexes loaded from RDB (valkey-search)."},
		{"search_rdb_load_failure_cnt", "search_rdb_load_failure_count", counter, "Search indexes that failed to load from RDB (valkey-search)."},
		{"search_rdb_save_success_cnt", "search_rdb_save_success_count", counter, "Search indexes saved to RDB (valkey-search)."},
		{"search_rdb_save_failure_cnt", "search_rdb_save_failure_count", counter, "Search indexes that failed to be saved to RDB (valkey-search)."},
		{"search_successful_requests_count", "search_successful_requests_count", counter, "Queries that succeeded (valkey-search)."},
		{"search_failure_requests_count", "search_failure_requests_count", counter, "Queries that failed (valkey-search)."},
		{"search_hybrid_requests_count", "search_hybrid_requests_count", counter, "Queries that combine vectors and other attributes (valkey-search)."},
		{"search_inline_filtering_requests_count", "search_inline_filtering_requests_count", counter, "Queries filtered inline (valkey-search)."},
		{"search_hnsw_add_exceptions_count", "search_hnsw_add_exceptions_count", counter, "Errors while adding to an HNSW index (valkey-search)."},
		{"search_hnsw_remove_exceptions_count", "search_hnsw_remove_exceptions_count", counter, "Errors while removing from an HNSW index (valkey-search)."},
		{"search_hnsw_modify_exceptions_count", "search_hnsw_modify_exceptions_count", counter, "Errors while changing an HNSW index (valkey-search)."},
		{"search_hnsw_search_exceptions_count", "search_hnsw_search_exceptions_count", counter, "Errors while searching an HNSW index (valkey-search)."},
		{"search_hnsw_create_exceptions_count", "search_hnsw_create_exceptions_count", counter, "Errors while creating an HNSW index (valkey-search)."},
		{"search_vector_externing_entry_count", "search_vector_externing_entry_count", counter, "Vectors shared with the key space (valkey-search)."},
		{"search_vector_externing_generated_value_cnt", "search_vector_externing_generated_value_count", counter, "Values generated for shared vectors (valkey-search)."},
		{"search_vector_externing_lru_promote_cnt", "search_vector_externing_lru_promote_count", counter, "Shared vectors moved to the front of the LRU list (valkey-search)."},
		{"search_vector_externing_deferred_entry_cnt", "search_vector_externing_deferred_entry_count", counter, "Vectors whose sharing was deferred (valkey-search)."},
	}
}
