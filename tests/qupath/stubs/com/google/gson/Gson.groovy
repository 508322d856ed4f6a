package com.google.gson

import groovy.json.JsonOutput

class Gson {
    String toJson(Object value) { JsonOutput.toJson(value) }
}
