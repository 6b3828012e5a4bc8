package store

import "github.com/minio/minio-go/v7"

func putOptions() minio.PutObjectOptions { return minio.PutObjectOptions{} }
