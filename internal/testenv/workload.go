package testenv

import "strings"

// Everyday returns the commands of an ordinary application, 21 distinct ones.
// They need no keys, and none of them fails on a server without any.
func Everyday() [][]string { return words(everyday) }

// Everything returns those of Everyday and as many others that the statistics of
// a server get to be long: 110 distinct ones, of Redis 7.0 and later. None of them
// fails on a server without keys.
func Everything() [][]string { return words(everyday + more) }

const everyday = `
SET s 1
GET s
INCR s
EXPIRE s 1000
TTL s
MSET a 1 b 2
MGET a b
EXISTS a
TYPE a
DEL a b
LPUSH l a b c
LRANGE l 0 -1
RPOP l
SADD t a b c
SMEMBERS t
ZADD z 1 a 2 b 3 c
ZRANGE z 0 -1
HSET h f 1 g 2
HGETALL h
SCAN 0
DBSIZE
`

const more = `
APPEND s2 text
STRLEN s2
GETRANGE s2 0 1
SETRANGE s2 0 x
SETBIT bits 7 1
GETBIT bits 7
BITCOUNT bits
BITPOS bits 1
BITOP NOT bits2 bits
BITFIELD bits GET u8 0
INCRBY n 2
INCRBYFLOAT n2 1.5
DECR n
DECRBY n 2
SETNX s3 1
SETEX s4 1000 1
PSETEX s5 1000000 1
GETEX s4
GETDEL s3
MSETNX m1 1 m2 2
PERSIST s4
PEXPIRE s4 1000000
EXPIREAT s4 4102444800
PEXPIREAT s4 4102444800000
EXPIRETIME s4
PEXPIRETIME s4
PTTL s4
TOUCH s2
COPY s2 s6
DUMP s2
RENAME s6 s7
RENAMENX s7 s8
UNLINK s8
RANDOMKEY
OBJECT ENCODING s2
RPUSH l2 a b c d
LLEN l2
LINDEX l2 0
LINSERT l2 BEFORE b x
LSET l2 0 y
LREM l2 1 x
LTRIM l2 0 10
LPOS l2 b
LPUSHX l2 z
RPUSHX l2 z
LPOP l2
LMOVE l2 l3 LEFT RIGHT
LMPOP 1 l2 LEFT
SCARD t
SISMEMBER t a
SMISMEMBER t a b
SRANDMEMBER t
SDIFF t u
SDIFFSTORE t2 t u
SINTER t u
SINTERCARD 2 t u
SUNION t u
SUNIONSTORE t3 t
SMOVE t t4 a
SREM t b
SPOP t3
SSCAN t 0
HGET h f
HMGET h f g
HEXISTS h f
HLEN h
HKEYS h
HVALS h
HSTRLEN h f
HSETNX h i 1
HINCRBY h f 1
HINCRBYFLOAT h g 1.5
HRANDFIELD h
HSCAN h 0
HDEL h i
ZCARD z
ZSCORE z a
ZMSCORE z a b
ZINCRBY z 1 a
ZRANK z a
ZCOUNT z 0 9
XADD x * f 1
XLEN x
XRANGE x - +
XREAD COUNT 1 STREAMS x 0
PFADD p a b
PFCOUNT p
GEOADD g 13.4 52.5 berlin
GEOPOS g berlin
`

// words splits a text with a command in each line.
func words(text string) [][]string {
	var commands [][]string
	for line := range strings.Lines(text) {
		if command := strings.Fields(line); len(command) > 0 {
			commands = append(commands, command)
		}
	}
	return commands
}
